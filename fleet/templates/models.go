package templates

import "slices"

// Model is a GPU as its vendor sells it. What the same chip with another size of memory can do differs.
type Model struct {
	// Name is the one that templates use, such as A100-40GB.
	Name string
	// Profiles are the MIG profiles it can be partitioned into, small ones first; none where it cannot be.
	Profiles []Profile
}

// Models are the GPUs whose partitions can be checked, oldest first. Names and numbers of profiles are those of "Supported
// MIG Profiles" in NVIDIA's MIG user guide.
func Models() []Model {
	return []Model{
		{Name: "V100-16GB"},
		{Name: "V100-32GB"},
		{Name: "A30-24GB", Profiles: fourSlices("6gb", "12gb", "24gb")},
		{Name: "A100-40GB", Profiles: eightSlices("5gb", "10gb", "20gb", "40gb")},
		{Name: "A100-80GB", Profiles: eightSlices("10gb", "20gb", "40gb", "80gb")},
		{Name: "H100-80GB", Profiles: eightSlices("10gb", "20gb", "40gb", "80gb")},
		{Name: "H100-94GB", Profiles: eightSlices("12gb", "24gb", "47gb", "94gb")},
		{Name: "H200-141GB", Profiles: eightSlices("18gb", "35gb", "71gb", "141gb")},
		{Name: "B200-180GB", Profiles: eightSlices("23gb", "45gb", "90gb", "180gb")},
	}
}

// FindModel finds a model by its name.
func FindModel(name string) (Model, bool) {
	models := Models()
	at := slices.IndexFunc(models, func(m Model) bool { return m.Name == name })
	if at < 0 {
		return Model{}, false
	}
	return models[at], true
}

// eightSlices is the geometry of the A100 and of what came after it, as nvmlDeviceGetGpuInstancePossiblePlacements tells
// it. Memory has eight slices and compute seven, so that two instances of 3g take all memory.
func eightSlices(eighth, quarter, half, whole string) []Profile {
	return []Profile{
		{Name: "1g." + eighth, Slices: 1, Starts: []int{0, 1, 2, 3, 4, 5, 6}},
		{Name: "1g." + eighth + mediaEngines, Slices: 1, Starts: []int{0, 1, 2, 3, 4, 5, 6}},
		{Name: "1g." + quarter, Slices: 2, Starts: []int{0, 2, 4, 6}},
		{Name: "2g." + quarter, Slices: 2, Starts: []int{0, 2, 4}},
		{Name: "3g." + half, Slices: 4, Starts: []int{0, 4}},
		{Name: "4g." + half, Slices: 4, Starts: []int{0}},
		{Name: "7g." + whole, Slices: 8, Starts: []int{0}},
	}
}

// fourSlices is the geometry of the A30.
func fourSlices(quarter, half, whole string) []Profile {
	return []Profile{
		{Name: "1g." + quarter, Slices: 1, Starts: []int{0, 1, 2, 3}},
		{Name: "1g." + quarter + mediaEngines, Slices: 1, Starts: []int{0, 1, 2, 3}},
		{Name: "2g." + half, Slices: 2, Starts: []int{0, 2}},
		{Name: "2g." + half + mediaEngines, Slices: 2, Starts: []int{0, 2}},
		{Name: "4g." + whole, Slices: 4, Starts: []int{0}},
	}
}
