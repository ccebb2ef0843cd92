package templates

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func model(t *testing.T, name string) Model {
	t.Helper()
	found, ok := FindModel(name)
	if !ok {
		t.Fatalf("there is no model %s", name)
	}
	return found
}

// The numbers are the column "Number of Instances Available" of NVIDIA's MIG user guide.
func TestEachProfileFitsAsOftenAsNVIDIASays(t *testing.T) {
	eight := []int{7, 1, 4, 3, 2, 1, 1}
	cases := map[string][]int{
		"A30-24GB": {4, 1, 2, 1, 1}, "A100-40GB": eight, "A100-80GB": eight, "H100-80GB": eight, "H100-94GB": eight,
		"H200-141GB": eight, "B200-180GB": eight, "V100-16GB": nil, "V100-32GB": nil,
	}
	for _, m := range Models() {
		want, known := cases[m.Name]
		if !known || len(want) != len(m.Profiles) {
			t.Errorf("%s has %d profiles, which the test does not expect", m.Name, len(m.Profiles))
			continue
		}
		for i, p := range m.Profiles {
			layout, err := m.UniformLayout("all-" + p.Name)
			if err != nil || layout[p.Name] != want[i] {
				t.Errorf("%s: all-%s is %v, %v; want %d", m.Name, p.Name, layout, err, want[i])
			}
		}
	}
}

func TestEightA100WithTheSmallestInstancesAre56Slices(t *testing.T) {
	for _, name := range []string{"A100-40GB", "A100-80GB"} {
		layout, err := model(t, name).UniformLayout("all-1g")
		if err != nil {
			t.Fatal(err)
		}
		instances := 0
		for _, count := range layout {
			instances += 8 * count
		}
		if instances != 56 {
			t.Errorf("eight %s with all-1g have %d slices, want 56", name, instances)
		}
	}
}

func TestLayoutsThatFit(t *testing.T) {
	cases := map[string][]Layout{
		"A100-40GB": {
			{"3g.20gb": 1, "2g.10gb": 1, "1g.5gb": 2}, // NVIDIA's all-balanced
			{"4g.20gb": 1, "3g.20gb": 1},
			{"3g.20gb": 1, "1g.5gb": 4},
			{"2g.10gb": 3, "1g.5gb": 1},
			{"1g.5gb": 6, "1g.5gb+me": 1},
		},
		"A30-24GB":   {{"2g.12gb": 1, "1g.6gb": 2}},
		"H200-141GB": {{"4g.71gb": 1, "2g.35gb": 1, "1g.18gb": 1}},
	}
	for name, layouts := range cases {
		for _, layout := range layouts {
			if err := model(t, name).Check(layout); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestALayoutThatDoesNotFitIsRefusedWithWhatDoes(t *testing.T) {
	cases := []struct {
		model  string
		layout Layout
		want   string
	}{
		{"H100-80GB", Layout{"3g.40gb": 2, "1g.10gb": 1}, "2 × 3g.40gb + 1 × 1g.10gb does not fit on one H100-80GB; possible are 2 × 3g.40gb, or 1 × 3g.40gb + 1 × 1g.10gb"},
		{"A100-40GB", Layout{"4g.20gb": 2}, "2 × 4g.20gb does not fit on one A100-40GB; possible are 1 × 4g.20gb"},
		{"A100-40GB", Layout{"1g.5gb": 1000}, "possible are 7 × 1g.5gb"},
		{"B200-180GB", Layout{"1g.23gb": 7, "1g.45gb": 4, "2g.45gb": 3, "3g.90gb": 2, "7g.180gb": 1}, "more"},
		{"A30-24GB", Layout{"1g.6gb+me": 1, "2g.12gb+me": 1}, "possible are 1 × 2g.12gb+me, or 1 × 1g.6gb+me"},
		{"H200-141GB", Layout{"1g.10gb": 7}, "H200-141GB has no MIG profile 1g.10gb; it has 1g.18gb, 1g.18gb+me, 1g.35gb, 2g.35gb, 3g.71gb, 4g.71gb, 7g.141gb"},
		{"V100-32GB", Layout{"1g.5gb": 7}, "V100-32GB cannot be partitioned"},
		{"A100-40GB", Layout{}, "a layout names at least one profile"},
		{"A100-40GB", Layout{"1g.5gb": 0}, "0 instances of 1g.5gb: leave the profile out, or ask for at least one"},
	}
	for _, c := range cases {
		err := model(t, c.model).Check(c.layout)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s with %v: %v\nwant: %s", c.model, c.layout, err, c.want)
		}
	}
}

func TestLayoutsAreNamedByAProfile(t *testing.T) {
	m := model(t, "H100-94GB")
	for name, want := range map[string]string{
		"all-1g": "7 × 1g.12gb", "all-1g.24gb": "4 × 1g.24gb", "all-2g": "3 × 2g.24gb", "all-7g.94gb": "1 × 7g.94gb",
	} {
		if layout, err := m.UniformLayout(name); err != nil || layout.String() != want {
			t.Errorf("%s is %s, %v; want %s", name, layout, err, want)
		}
	}
	for name, want := range map[string]string{
		"1g.12gb": `"1g.12gb" is not the name of a layout`, "all-": "has no MIG profile", "all-5g": "H100-94GB has no MIG profile 5g",
	} {
		if _, err := m.UniformLayout(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
}

func TestAResourceIsNamedAsByTheDevicePlugin(t *testing.T) {
	for name, want := range map[string]string{"1g.10gb": "nvidia.com/mig-1g.10gb", "1g.10gb+me": "nvidia.com/mig-1g.10gb.me"} {
		if got := (Profile{Name: name}).ResourceName(); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// Whatever is offered instead of a layout must itself be possible, and every layout below a possible one is possible.
func TestWhatIsPossibleIsConsistent(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same layouts each time
	for range 2000 {
		m := Models()[random.IntN(len(Models()))]
		layout := Layout{}
		for _, p := range m.Profiles {
			if count := random.IntN(4); count > 1 {
				layout[p.Name] = count - 1
			}
		}
		if len(layout) == 0 {
			continue
		}
		fits := m.Check(layout) == nil
		offered := 0
		m.below(layout, slices.Sorted(maps.Keys(layout)), Layout{}, func(below Layout) {
			offered++
			if !m.fits(below) {
				t.Errorf("%s: %s was visited and does not fit", m.Name, below)
			}
			if below.String() == layout.String() && !fits {
				t.Errorf("%s: %s is refused and possible", m.Name, layout)
			}
		})
		all := 1
		for _, count := range layout {
			all *= count + 1
		}
		if fits && offered != all {
			t.Errorf("%s: %s fits, but only %d of %d layouts below it do", m.Name, layout, offered, all)
		}
	}
}
