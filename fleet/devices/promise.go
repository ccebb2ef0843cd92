package devices

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

// Promise is what a NodeTemplate says of its nodes.
type Promise struct {
	// Devices that the node advertises, sorted by name.
	Devices []fleetv1.Device
	// Driver is the version that it runs; any when empty.
	Driver string
	// BurnIn that it passes; none when nil.
	BurnIn *fleetv1.BurnIn
}

// isPromised says whether anything is promised of the Machine's node.
func isPromised(machine client.Object) bool {
	annotations := machine.GetAnnotations()
	return cmp.Or(annotations[fleetv1.DevicesAnnotation], annotations[fleetv1.DriverVersionAnnotation], annotations[fleetv1.BurnInAnnotation]) != ""
}

// PromiseOf reads the annotations of a Machine.
func PromiseOf(annotations map[string]string) (Promise, error) {
	promise := Promise{Driver: annotations[fleetv1.DriverVersionAnnotation]}
	var errs []error
	for _, text := range split(annotations[fleetv1.DevicesAnnotation]) {
		name, count, err := assignment(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("annotation %s: %w; write <resource>=<count>, separated by commas", fleetv1.DevicesAnnotation, err))
			continue
		}
		promise.Devices = append(promise.Devices, fleetv1.Device{ResourceName: name, Count: count})
	}
	slices.SortFunc(promise.Devices, func(a, b fleetv1.Device) int { return cmp.Compare(a.ResourceName, b.ResourceName) })
	if text := annotations[fleetv1.BurnInAnnotation]; text != "" {
		name, seconds, err := assignment(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("annotation %s: %w; write <condition type>=<seconds>", fleetv1.BurnInAnnotation, err))
		}
		promise.BurnIn = &fleetv1.BurnIn{ConditionType: name, TimeoutSeconds: seconds}
	}
	return promise, errors.Join(errs...)
}

func split(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, ",")
}

func assignment(text string) (string, int32, error) {
	name, number, found := strings.Cut(strings.TrimSpace(text), "=")
	value, err := strconv.ParseInt(number, 10, 32)
	if !found || name == "" || err != nil || value < 0 {
		return "", 0, fmt.Errorf("%q does not name a number", text)
	}
	return name, int32(value), nil
}

func timeout(burnIn *fleetv1.BurnIn) time.Duration {
	return time.Duration(burnIn.TimeoutSeconds) * time.Second
}
