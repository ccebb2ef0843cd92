package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/sendan-io/sendan/bench"
)

// benchFlags say what to measure.
type benchFlags struct {
	plane    planeFlags
	clusters []int
	// concurrency is how many clusters may be on their way at once, zero for all.
	concurrency int
	file        string
	budget      bool
	// profiles is a directory, empty for none.
	profiles string
}

func newBenchCommand() *cobra.Command {
	var flags benchFlags
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure time to Ready, calls to the cloud, processor time and memory",
		Long: `bench brings up a fresh plane for each number of clusters, applies that many clusters of three
control-plane nodes and two GPU workers, waits until all are Ready, leaves them alone for a while, and deletes
them. Nodes exist only in memory, so the figures are those of the management plane and of the calls it makes.

With --budget it fails when the largest run exceeds what bench/budget.yaml allows.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runBench(cmd.Context(), cmd.OutOrStdout(), flags)
		},
	}
	flags.plane.register(cmd, "", "where to keep state and logs (default a temporary directory)")
	cmd.Flags().IntSliceVar(&flags.clusters, "clusters", []int{1, 20}, "how many clusters to make; one run for each number")
	cmd.Flags().IntVar(&flags.concurrency, "concurrency", 0, "how many clusters may be on their way to Ready, or away, at once (default all)")
	cmd.Flags().StringVar(&flags.file, "out", "", "also write the table to this file")
	cmd.Flags().BoolVar(&flags.budget, "budget", false, "fail when the largest run is over its budget")
	cmd.Flags().StringVar(&flags.profiles, "profiles", "", "write profiles of infrastructure-manager's processor time and memory to this directory; taking them costs it a little of both")
	return cmd
}

func (f *benchFlags) validate() error {
	if slices.ContainsFunc(f.clusters, func(count int) bool { return count < 1 }) || len(f.clusters) == 0 {
		return fmt.Errorf("--clusters is %v: give numbers above zero, such as 1,20", f.clusters)
	}
	if f.concurrency < 0 {
		return fmt.Errorf("--concurrency is %d: give a number above zero, or 0 for all clusters at once", f.concurrency)
	}
	return nil
}

// runBench writes what was measured also when a later run fails, and keeps the logs then.
func runBench(ctx context.Context, out io.Writer, flags benchFlags) error {
	if err := flags.validate(); err != nil {
		return err
	}
	budgets, err := bench.ReadBudgets()
	if err != nil {
		return err
	}
	base, remove, err := benchDirectory(flags.plane.stateDir)
	if err != nil {
		return err
	}
	report := benchReport{machine: describeMachine(), cores: runtime.NumCPU(), at: time.Now(), versions: versions(), concurrency: flags.concurrency, budgets: budgets}
	report.runs, err = measureAll(ctx, out, flags, base)
	if err == nil {
		remove()
	}
	if len(report.runs) == 0 {
		return err
	}
	err = errors.Join(err, writeReport(out, flags.file, report.String()))
	if flags.budget && err == nil {
		err = report.largest().checkBudget(budgets)
	}
	return err
}

// benchDirectory is the given one, or else a temporary one that remove removes.
func benchDirectory(given string) (directory string, remove func(), err error) {
	if given != "" {
		return given, func() {}, nil
	}
	directory, err = os.MkdirTemp("", "sendan-bench-")
	if err != nil {
		return "", nil, fmt.Errorf("make a state directory: %w", err)
	}
	return directory, func() { _ = os.RemoveAll(directory) }, nil
}

// measureAll returns what was measured until something failed.
func measureAll(ctx context.Context, out io.Writer, flags benchFlags, base string) ([]measurement, error) {
	var runs []measurement
	for _, count := range flags.clusters {
		flags.plane.stateDir = filepath.Join(base, fmt.Sprintf("%d-clusters", count))
		_, _ = fmt.Fprintf(out, "%d clusters\n", count)
		m, err := measure(ctx, out, flags, count)
		if err != nil {
			return runs, fmt.Errorf("%d clusters: %w\nlogs are kept in %s", count, err, flags.plane.stateDir)
		}
		runs = append(runs, m)
	}
	return runs, nil
}

func writeReport(out io.Writer, file, report string) error {
	_, _ = fmt.Fprint(out, "\n", report)
	if file == "" {
		return nil
	}
	if err := os.WriteFile(file, []byte(report), 0o644); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	return nil
}
