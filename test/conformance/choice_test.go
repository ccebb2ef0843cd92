package conformance

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sendan-io/sendan/cloud"
)

// choice is what the operator asks for, by name or id; empty leaves it to us.
type choice struct{ flavor, image, externalNetwork, balancerProvider string }

// chosen is what a run works with.
type chosen struct {
	flavor   cloud.Flavor
	image    cloud.Image
	external cloud.Network // without an id where the cloud has none
	// why says in three lines what was chosen for which reason.
	why string
}

// choose settles on what the cloud offers, or says what there is to choose from.
func choose(offers cloud.Offers, wishes choice) (made chosen, err error) {
	var why [3]string
	images := slices.SortedFunc(slices.Values(offers.Images), leastImage)
	if made.image, why[0], err = pick("image", wishes.image, images, describeImage, "wants least of a flavor"); err != nil {
		return made, err
	}
	flavors := flavorsFor(offers.Flavors, made.image, wishes.flavor != "")
	if made.flavor, why[1], err = pick("flavor", wishes.flavor, flavors, describeFlavor, "is the smallest that fits"); err != nil {
		return made, err
	}
	if len(offers.ExternalNetworks) == 0 && wishes.externalNetwork == "" {
		why[2] = "external network: the cloud has none"
	} else {
		made.external, why[2], err = pick("external network", wishes.externalNetwork, offers.ExternalNetworks, describeNetwork, "")
	}
	made.why = strings.Join(why[:], "\n")
	return made, err
}

// description is how a person names a thing.
type description struct{ name, id, text string }

func describeImage(i cloud.Image) description { return description{i.Name, i.ID, i.Name} }

func describeNetwork(n cloud.Network) description { return description{n.Name, n.ID, n.Name} }

func describeFlavor(f cloud.Flavor) description {
	return description{f.Name, f.ID, fmt.Sprintf("%s (%d CPUs, %d MiB, %d GiB)", f.Name, f.VCPUs, f.MemoryMiB, f.DiskGiB)}
}

// pick is the one that was asked for by name or id. Otherwise it is the first one, where that is the best for some reason, or
// the only one.
func pick[T any](what, wanted string, from []T, describe func(T) description, best string) (T, string, error) {
	because := "was asked for"
	switch {
	case wanted == "" && len(from) == 1:
		wanted, because = describe(from[0]).id, "is the only one"
	case wanted == "" && len(from) > 1 && best != "":
		wanted, because = describe(from[0]).id, best
	}
	matching := slices.DeleteFunc(slices.Clone(from), func(item T) bool {
		d := describe(item)
		return wanted == "" || wanted != d.name && wanted != d.id
	})
	if len(matching) != 1 {
		var none T
		return none, "", refuse(what, wanted, from, describe)
	}
	return matching[0], fmt.Sprintf("%s: %s (%s) %s", what, describe(matching[0]).text, describe(matching[0]).id, because), nil
}

// refuse lists the candidates.
func refuse[T any](what, wanted string, from []T, describe func(T) description) error {
	var there []string
	for _, item := range from {
		there = append(there, describe(item).text+" "+describe(item).id)
	}
	return fmt.Errorf("%s %q: exactly one has to match, of these that would do: %s; set -%s to one of the names or ids",
		what, wanted, cmp.Or(strings.Join(there, ", "), "none"), strings.ReplaceAll(what, " ", "-"))
}

func leastImage(a, b cloud.Image) int {
	return cmp.Or(cmp.Compare(a.MinDiskGiB, b.MinDiskGiB), cmp.Compare(a.MinMemoryMiB, b.MinMemoryMiB), cmp.Compare(a.Name, b.Name))
}

// flavorsFor are the flavors on whose own disk an image can run, the smallest first. Those that bring devices are left to
// whoever asks for one.
func flavorsFor(all []cloud.Flavor, image cloud.Image, withDevices bool) []cloud.Flavor {
	fitting := slices.DeleteFunc(slices.Clone(all), func(f cloud.Flavor) bool {
		return f.DiskGiB < max(image.MinDiskGiB, 1) || f.MemoryMiB < image.MinMemoryMiB || !withDevices && bringsDevices(f)
	})
	return slices.SortedFunc(slices.Values(fitting), func(a, b cloud.Flavor) int {
		return cmp.Or(cmp.Compare(a.VCPUs, b.VCPUs), cmp.Compare(a.MemoryMiB, b.MemoryMiB), cmp.Compare(a.DiskGiB, b.DiskGiB), cmp.Compare(a.Name, b.Name))
	})
}

func bringsDevices(f cloud.Flavor) bool {
	for key := range f.ExtraSpecs {
		if key == "pci_passthrough:alias" || strings.HasPrefix(key, "resources") {
			return true
		}
	}
	return false
}

func TestWhatIsChosenHasAReasonOrIsRefusedWithTheCandidates(t *testing.T) {
	offers := cloud.Offers{
		Flavors: []cloud.Flavor{
			{ID: "f3", Name: "large", VCPUs: 8, MemoryMiB: 8192, DiskGiB: 80},
			{ID: "f2", Name: "small", VCPUs: 2, MemoryMiB: 2048, DiskGiB: 20},
			{ID: "f1", Name: "tiny", VCPUs: 1, MemoryMiB: 512, DiskGiB: 1},
			{ID: "f0", Name: "gpu", VCPUs: 1, MemoryMiB: 2048, DiskGiB: 20, ExtraSpecs: map[string]string{"pci_passthrough:alias": "a100:1"}},
			{ID: "f4", Name: "diskless", VCPUs: 1, MemoryMiB: 2048},
		},
		Images:           []cloud.Image{{ID: "i2", Name: "windows", MinDiskGiB: 40}, {ID: "i1", Name: "ubuntu", MinDiskGiB: 10}, {ID: "i3", Name: "windows", MinDiskGiB: 40}},
		ExternalNetworks: []cloud.Network{{ID: "n1", Name: "public"}},
	}
	two := offers
	two.ExternalNetworks = []cloud.Network{{ID: "n1", Name: "public"}, {ID: "n2", Name: "campus"}}
	none := offers
	none.ExternalNetworks = nil
	for name, c := range map[string]struct {
		offers                   cloud.Offers
		wishes                   choice
		image, flavor, network   string
		refusedWith, reasonNamed string
	}{
		"nothing asked for":         {offers: offers, image: "i1", flavor: "f2", network: "n1", reasonNamed: "is the smallest that fits"},
		"all asked for":             {offers: two, wishes: choice{flavor: "f3", image: "i3", externalNetwork: "campus"}, image: "i3", flavor: "f3", network: "n2", reasonNamed: "was asked for"},
		"a GPU asked for":           {offers: offers, wishes: choice{flavor: "gpu"}, image: "i1", flavor: "f0", network: "n1"},
		"no external network":       {offers: none, image: "i1", flavor: "f2", reasonNamed: "the cloud has none"},
		"several external networks": {offers: two, refusedWith: "public n1, campus n2; set -external-network"},
		"two images of a name":      {offers: offers, wishes: choice{image: "windows"}, refusedWith: "windows i2, windows i3; set -image"},
		"a flavor that is too small": {offers: offers, wishes: choice{flavor: "tiny"},
			refusedWith: "gpu (1 CPUs, 2048 MiB, 20 GiB) f0, small (2 CPUs, 2048 MiB, 20 GiB) f2, large (8 CPUs, 8192 MiB, 80 GiB) f3; set -flavor"},
		"no flavor at all": {offers: cloud.Offers{Images: offers.Images}, refusedWith: "none; set -flavor"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := choose(c.offers, c.wishes)
			if c.refusedWith != "" {
				if err == nil || !strings.Contains(err.Error(), c.refusedWith) {
					t.Fatalf("%v, want %q", err, c.refusedWith)
				}
				return
			}
			if err != nil || got.image.ID != c.image || got.flavor.ID != c.flavor || got.external.ID != c.network || !strings.Contains(got.why, c.reasonNamed) {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}
