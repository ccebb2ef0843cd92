package cli

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-logr/logr"
	"github.com/jonboulle/clockwork"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// fieldOwner is who the API server knows to have written what a command writes.
const fieldOwner = client.FieldOwner("sendan-cli")

// plugin is what kubectl looks for, to offer it as `kubectl sendan`.
const plugin = "kubectl-sendan"

// AddTo adds the commands to the program's root. Program is what it was called as.
func AddTo(root *cobra.Command, program string) {
	if strings.TrimSuffix(filepath.Base(program), ".exe") == plugin {
		root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl sendan"}
	}
	// What is worth telling is in errors and warnings; libraries would otherwise complain that nobody listens.
	ctrl.SetLogger(logr.Discard())
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.Args, root.RunE = onlySubcommands, help
	s := &session{flags: genericclioptions.NewConfigFlags(true), clock: clockwork.NewRealClock()}
	root.AddCommand(s.clusterCommand(), s.templateCommand(), s.releaseCommand(), s.tenantCommand(), s.siteCommand(), s.addonCommand(), s.cloudCommand())
}

// session is what all commands of a run share.
type session struct {
	flags *genericclioptions.ConfigFlags
	clock clockwork.Clock
}

// noun is a command that only has others below it.
func (s *session) noun(name, short string, verbs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: name, Aliases: []string{name + "s"}, Short: short, Args: onlySubcommands, RunE: help}
	s.flags.AddFlags(cmd.PersistentFlags())
	cmd.PersistentFlags().VisitAll(func(flag *pflag.Flag) {
		flag.Hidden = !slices.Contains([]string{"kubeconfig", "context", "namespace", "as", "as-group", "request-timeout"}, flag.Name)
	})
	cmd.AddCommand(verbs...)
	return cmd
}

func help(cmd *cobra.Command, _ []string) error { return cmd.Help() }

// onlySubcommands refuses a word that is none of them. Cobra would show the help and report success.
func onlySubcommands(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if cmd.SuggestionsMinimumDistance <= 0 {
		cmd.SuggestionsMinimumDistance = 2
	}
	var names []string
	for _, known := range cmd.Commands() {
		if known.IsAvailableCommand() {
			names = append(names, known.Name())
		}
	}
	fix := "there are " + strings.Join(names, ", ")
	if similar := cmd.SuggestionsFor(args[0]); len(similar) > 0 {
		fix = "did you mean " + strings.Join(similar, " or ") + "?"
	}
	return usagef("%s has no command %q: %s", cmd.CommandPath(), args[0], fix)
}

// arguments refuses another number of them than the usage line names.
func arguments(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < least || len(args) > most {
			return usagef("usage: %s", cmd.UseLine())
		}
		return nil
	}
}

func usagef(format string, values ...any) error { return usageError{fmt.Errorf(format, values...)} }
