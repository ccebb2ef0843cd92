package templates

import "slices"

// Generation is what GPUs of one architecture have in common, and what a NodeTemplate need not say.
type Generation struct {
	// Name is NVIDIA's, such as Ampere. Releases choose images by it.
	Name string
	// FirstDriver and LastDriver are the branches of NVIDIA's data center driver that know it; no last one is 0. From
	// "Supported Drivers and CUDA Toolkit Versions" of NVIDIA's driver documentation.
	FirstDriver, LastDriver int
	// MemoryRepair is how it deals with broken memory: older ones retire pages, newer ones remap rows.
	MemoryRepair string
	// FabricManagerFrom is the number of GPUs in a machine from which NVSwitch connects them, which needs the fabric manager:
	// the size of an HGX board. 0 where there is none.
	FabricManagerFrom int32
}

// The ways of [Generation.MemoryRepair].
const (
	pageRetirement = "page-retirement"
	rowRemapping   = "row-remapping"
)

func volta() Generation {
	return Generation{Name: "Volta", FirstDriver: 384, LastDriver: 580, MemoryRepair: pageRetirement}
}

func ampere() Generation {
	return Generation{Name: "Ampere", FirstDriver: 450, MemoryRepair: rowRemapping, FabricManagerFrom: 8}
}

func hopper() Generation {
	return Generation{Name: "Hopper", FirstDriver: 525, MemoryRepair: rowRemapping, FabricManagerFrom: 8}
}

func blackwell() Generation {
	return Generation{Name: "Blackwell", FirstDriver: 570, MemoryRepair: rowRemapping, FabricManagerFrom: 8}
}

// withoutSwitch is for models that are only sold as cards.
func withoutSwitch(g Generation) Generation {
	g.FabricManagerFrom = 0
	return g
}

// Model is a GPU as its vendor sells it. What the same chip with another size of memory can do differs.
type Model struct {
	// Name is the one that templates use, such as A100-40GB.
	Name string
	// Generation it belongs to.
	Generation Generation
	// Profiles are the MIG profiles it can be partitioned into, small ones first; none where it cannot be.
	Profiles []Profile
}

// Models are the GPUs whose partitions can be checked, oldest first. Names and numbers of profiles are those of "Supported
// MIG Profiles" in NVIDIA's MIG user guide.
func Models() []Model {
	return []Model{
		{Name: "V100-16GB", Generation: volta()},
		{Name: "V100-32GB", Generation: volta()},
		{Name: "A30-24GB", Generation: withoutSwitch(ampere()), Profiles: fourSlices("6gb", "12gb", "24gb")},
		{Name: "A100-40GB", Generation: ampere(), Profiles: eightSlices("5gb", "10gb", "20gb", "40gb")},
		{Name: "A100-80GB", Generation: ampere(), Profiles: eightSlices("10gb", "20gb", "40gb", "80gb")},
		{Name: "H100-80GB", Generation: hopper(), Profiles: eightSlices("10gb", "20gb", "40gb", "80gb")},
		{Name: "H100-94GB", Generation: hopper(), Profiles: eightSlices("12gb", "24gb", "47gb", "94gb")},
		{Name: "H200-141GB", Generation: hopper(), Profiles: eightSlices("18gb", "35gb", "71gb", "141gb")},
		{Name: "B200-180GB", Generation: blackwell(), Profiles: eightSlices("23gb", "45gb", "90gb", "180gb")},
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
