package main

import (
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/sendan-io/sendan/cmd/sendan/cli"
)

func newRootCommand(out, errOut io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "sendan",
		Short: "Kubernetes clusters with GPUs from an OpenStack-style cloud",
		Long: `sendan runs a whole management plane on this machine, next to a simulated cloud, without Docker and
without root: to look around, to try things, and to measure.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetOut(out)
	root.SetErr(errOut)
	root.AddCommand(newUpCommand(), newDemoCommand(), newBenchCommand(), newVersionCommand())
	cli.AddTo(root, os.Args[0])
	return root
}

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) {
			_, _ = fmt.Fprintln(cmd.OutOrStdout(), version())
		},
	}
}

// version is what the Go toolchain recorded: a tag, or a pseudo-version with the commit.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return fmt.Sprintf("sendan %s (%s)", info.Main.Version, info.GoVersion)
}
