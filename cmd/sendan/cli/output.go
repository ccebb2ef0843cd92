package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/cli-runtime/pkg/printers"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
)

// Formats of what commands show.
const (
	formatTable = "table"
	formatWide  = "wide"
	formatJSON  = "json"
	formatYAML  = "yaml"
	formatName  = "name"
)

// output is the flag that chooses the format.
type output struct {
	format  string
	allowed []string
}

// register offers formats, the first of which is taken by default.
func (o *output) register(cmd *cobra.Command, formats ...string) {
	o.allowed = formats
	cmd.Flags().StringVarP(&o.format, "output", "o", formats[0], "format: "+strings.TrimPrefix(strings.Join(formats, ", "), ", "))
	offer(cmd, "output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
}

func (o *output) registerAll(cmd *cobra.Command) {
	o.register(cmd, formatTable, formatWide, formatJSON, formatYAML, formatName)
}

func (o *output) check() error {
	if !slices.Contains(o.allowed, o.format) {
		return usagef("--output %q is not known: choose %s", o.format, strings.TrimPrefix(strings.Join(o.allowed, ", "), ", "))
	}
	return nil
}

// forPeople is false where objects are printed as they are.
func (o *output) forPeople() bool { return o.format == formatTable || o.format == formatWide }

func (o *output) wide() bool { return o.format == formatWide }

// objects prints an object, or a list of them, in a format for programs.
func (o *output) objects(out io.Writer, scheme *runtime.Scheme, object runtime.Object) error {
	items, isList := []runtime.Object{object}, meta.IsListType(object)
	if isList {
		var err error
		if items, err = meta.ExtractList(object); err != nil {
			return fmt.Errorf("read the list: %w", err)
		}
	}
	list := &unstructured.UnstructuredList{Object: map[string]any{"apiVersion": "v1", "kind": "List"}}
	for _, item := range items {
		content, err := withKind(scheme, item)
		if err != nil {
			return err
		}
		list.Items = append(list.Items, *content)
	}
	if o.format == formatName {
		for i := range list.Items {
			if err := (&printers.NamePrinter{}).PrintObj(&list.Items[i], out); err != nil {
				return err
			}
		}
		return nil
	}
	var printer printers.ResourcePrinter = &printers.YAMLPrinter{}
	if o.format == formatJSON {
		printer = &printers.JSONPrinter{}
	}
	printer = &printers.OmitManagedFieldsPrinter{Delegate: printer}
	if isList {
		return printer.PrintObj(list, out)
	}
	return printer.PrintObj(&list.Items[0], out)
}

// withKind puts back what is lost when objects of a known kind are read.
func withKind(scheme *runtime.Scheme, object runtime.Object) (*unstructured.Unstructured, error) {
	kind, err := apiutil.GVKForObject(object, scheme)
	if err != nil {
		return nil, fmt.Errorf("find the kind: %w", err)
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return nil, fmt.Errorf("convert %s: %w", kind.Kind, err)
	}
	result := &unstructured.Unstructured{Object: content}
	result.SetGroupVersionKind(kind)
	return result, nil
}

// column of a table with a row for each T.
type column[T any] struct {
	name string
	cell func(T) string
	// wide is shown with -o wide only.
	wide bool
}

// writeTable aligns the columns. What is not known is shown as a dash.
func writeTable[T any](out io.Writer, wide bool, columns []column[T], rows []T) error {
	columns = slices.Clone(columns)
	columns = slices.DeleteFunc(columns, func(c column[T]) bool { return c.wide && !wide })
	table := &metav1.Table{}
	for _, c := range columns {
		table.ColumnDefinitions = append(table.ColumnDefinitions, metav1.TableColumnDefinition{Name: c.name})
	}
	for _, row := range rows {
		var cells []any
		for _, c := range columns {
			cells = append(cells, orDash(c.cell(row)))
		}
		table.Rows = append(table.Rows, metav1.TableRow{Cells: cells})
	}
	return printers.NewTablePrinter(printers.PrintOptions{}).PrintObj(table, out)
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// messageWidth keeps a table readable; -o wide shows whole messages.
const messageWidth = 72

func shorten(message string, wide bool) string {
	message = oneLine(message)
	if runes := []rune(message); !wide && len(runes) > messageWidth {
		return string(runes[:messageWidth-1]) + "…"
	}
	return message
}

func age(now time.Time, since metav1.Time) string {
	if since.IsZero() {
		return ""
	}
	return duration.HumanDuration(now.Sub(since.Time))
}

// condition is the zero one where there is none of the type.
func condition(conditions []metav1.Condition, kind string) metav1.Condition {
	if found := meta.FindStatusCondition(conditions, kind); found != nil {
		return *found
	}
	return metav1.Condition{}
}
