package templates

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// mediaEngines ends the names of profiles with decoders for video and JPEG, of which one instance of a GPU has them all.
const mediaEngines = "+me"

// mostOffered is how many possible layouts a refusal names.
const mostOffered = 5

// Profile is one kind of MIG instance that a GPU can be partitioned into.
type Profile struct {
	// Name is NVIDIA's: compute slices and memory, such as 1g.10gb.
	Name string
	// Slices is how many slices of the GPU's memory an instance takes. They are what instances compete for.
	Slices int
	// Starts are the slices at which an instance may begin.
	Starts []int
}

// ResourceName is the extended resource that NVIDIA's device plugin advertises for it with the strategy "mixed".
func (p Profile) ResourceName() string {
	return "nvidia.com/mig-" + strings.ReplaceAll(p.Name, "+", ".")
}

// Layout is how one GPU is partitioned: instances by the name of their profile.
type Layout map[string]int

// String lists the largest instances first, as a person would.
func (l Layout) String() string {
	names := slices.Sorted(maps.Keys(l))
	slices.Reverse(names)
	parts := make([]string, 0, len(names))
	for _, name := range names {
		parts = append(parts, fmt.Sprintf("%d × %s", l[name], name))
	}
	return strings.Join(parts, " + ")
}

// UniformLayout fills a GPU with instances of one profile. The name is "all-" and the profile's, as NVIDIA's MIG manager
// has it, such as all-1g.10gb; or its compute slices alone, such as all-1g, which takes the one with the least memory and so
// serves GPUs with different sizes of memory.
func (m Model) UniformLayout(name string) (Layout, error) {
	wanted, uniform := strings.CutPrefix(name, "all-")
	if !uniform {
		return nil, fmt.Errorf("%q is not the name of a layout: write all-<profile>, such as all-1g, or give numbers for profiles", name)
	}
	for _, p := range m.Profiles {
		if p.Name == wanted || strings.HasPrefix(p.Name, wanted+".") {
			return Layout{p.Name: m.most(p)}, nil
		}
	}
	return nil, m.unknown(wanted)
}

// Check says why a GPU of this model cannot be partitioned like that, and how it can.
func (m Model) Check(layout Layout) error {
	for _, name := range slices.Sorted(maps.Keys(layout)) {
		if !slices.ContainsFunc(m.Profiles, func(p Profile) bool { return p.Name == name }) {
			return m.unknown(name)
		}
		if layout[name] < 1 {
			return fmt.Errorf("%d instances of %s: leave the profile out, or ask for at least one", layout[name], name)
		}
	}
	if len(layout) == 0 {
		return fmt.Errorf("a layout names at least one profile; %s", m.offers())
	}
	if m.fits(layout) {
		return nil
	}
	return fmt.Errorf("%s does not fit on one %s; possible are %s", layout, m.Name, m.instead(layout))
}

func (m Model) unknown(profile string) error {
	return fmt.Errorf("%s has no MIG profile %s; %s", m.Name, profile, m.offers())
}

func (m Model) offers() string {
	if len(m.Profiles) == 0 {
		return m.Name + " cannot be partitioned"
	}
	names := make([]string, 0, len(m.Profiles))
	for _, p := range m.Profiles {
		names = append(names, p.Name)
	}
	return "it has " + strings.Join(names, ", ")
}

// most is how many instances of one profile fit when there is nothing else.
func (m Model) most(p Profile) int {
	count := 1
	for m.fits(Layout{p.Name: count + 1}) {
		count++
	}
	return count
}

// fits looks for a place for every instance, large ones first.
func (m Model) fits(layout Layout) bool {
	var instances []Profile
	withMedia := 0
	for _, p := range slices.Backward(m.Profiles) {
		count := layout[p.Name]
		if count > len(p.Starts) {
			return false
		}
		if strings.HasSuffix(p.Name, mediaEngines) {
			withMedia += count
		}
		instances = append(instances, slices.Repeat([]Profile{p}, count)...)
	}
	return withMedia <= 1 && place(instances, 0)
}

// place tries all places; taken has a bit for each slice of memory. There are at most eight slices.
func place(instances []Profile, taken uint) bool {
	if len(instances) == 0 {
		return true
	}
	for _, start := range instances[0].Starts {
		slots := uint(1<<instances[0].Slices-1) << start
		if taken&slots == 0 && place(instances[1:], taken|slots) {
			return true
		}
	}
	return false
}

// instead lists the layouts that come closest from below: no instance of those asked for can be added to any of them.
func (m Model) instead(layout Layout) string {
	var found []string
	m.below(layout, slices.Sorted(maps.Keys(layout)), Layout{}, func(fitting Layout) {
		for name := range layout {
			more := maps.Clone(fitting)
			if more[name]++; more[name] <= layout[name] && m.fits(more) {
				return
			}
		}
		found = append(found, fitting.String())
	})
	if len(found) > mostOffered {
		found = append(found[:mostOffered], fmt.Sprintf("%d more", len(found)-mostOffered))
	}
	return strings.Join(found, ", or ")
}

// below visits all layouts that fit and have no more of any profile than the one asked for.
func (m Model) below(asked Layout, names []string, chosen Layout, visit func(Layout)) {
	if len(names) == 0 {
		visit(maps.Clone(chosen))
		return
	}
	for count := range asked[names[0]] + 1 {
		next := maps.Clone(chosen)
		if count > 0 {
			next[names[0]] = count
		}
		if !m.fits(next) {
			return // nor does any with more of it
		}
		m.below(asked, names[1:], next, visit)
	}
}
