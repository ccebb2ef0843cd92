package simulator_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumes"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/volumeattach"
	"github.com/gophercloud/gophercloud/v2/pagination"

	"github.com/sendan-io/sendan/cloud/simulator"
)

func (s *session) cinder() *gophercloud.ServiceClient { return s.client(openstack.NewBlockStorageV3) }

func (s *session) volume(opts volumes.CreateOpts) *volumes.Volume {
	s.t.Helper()
	volume, err := volumes.Create(s.ctx(), s.cinder(), opts, nil).Extract()
	if err != nil {
		s.t.Fatal(err)
	}
	return volume
}

func (s *session) expectVolume(id, status string) *volumes.Volume {
	s.t.Helper()
	volume, err := volumes.Get(s.ctx(), s.cinder(), id).Extract()
	if err != nil {
		s.t.Fatal(err)
	}
	if volume.Status != status {
		s.t.Fatalf("volume is %s, want %s", volume.Status, status)
	}
	return volume
}

func TestAVolumeLivesThroughItsStates(t *testing.T) {
	s := newTestCloud(t).demo()
	id := s.volume(volumes.CreateOpts{Size: 5, Name: "data", Metadata: map[string]string{"k": "v"}, AvailabilityZone: "az2"}).ID
	s.expectVolume(id, "creating")
	s.advance(aWhile)
	if v := s.expectVolume(id, "available"); v.Size != 5 || v.Metadata["k"] != "v" || v.AvailabilityZone != "az2" || v.VolumeType != "__DEFAULT__" {
		t.Errorf("volume %+v", v)
	}

	server := s.created(s.serverOpts("node")).ID
	attachment := must[*volumeattach.VolumeAttachment](t)(volumeattach.Create(s.ctx(), s.compute("2.79"), server, volumeattach.CreateOpts{VolumeID: id}).Extract())
	if attachment.Device != "/dev/vdb" {
		t.Errorf("device %q", attachment.Device)
	}
	s.expectVolume(id, "attaching")
	s.advance(aWhile)
	if v := s.expectVolume(id, "in-use"); len(v.Attachments) != 1 || v.Attachments[0].ServerID != server {
		t.Errorf("attachments %+v", v.Attachments)
	}
	a := s.request("DELETE", s.volumePath(id), "")
	if !strings.HasPrefix(a.message(t, "badRequest"), "Invalid volume: Volume status must be available or error") {
		t.Errorf("deleting an attached volume: %s", a.body)
	}

	if err := volumeattach.Delete(s.ctx(), s.compute("2.79"), server, id).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	s.expectVolume(id, "detaching")
	s.advance(aWhile)
	s.expectVolume(id, "available")
	if err := volumes.Delete(s.ctx(), s.cinder(), id, nil).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	s.expectVolume(id, "deleting")
	s.advance(aWhile)
	gone := s.request("GET", s.volumePath(id), "")
	if gone.message(t, "itemNotFound") != "Volume "+id+" could not be found." {
		t.Errorf("deleted volume: %s", gone.body)
	}
}

// volumePath is a volume's URL path in the caller's project.
func (s *session) volumePath(id string) string {
	return strings.TrimPrefix(s.cinder().Endpoint, s.url) + "volumes/" + id
}

func TestVolumesAreRefusedInCindersWords(t *testing.T) {
	s := newTestCloud(t, withQuota("gigabytes", 10)).demo()
	s.volume(volumes.CreateOpts{Size: 8})
	for name, c := range map[string]struct {
		body, kind string
		status     int
		text       string
	}{
		"over quota": {`{"volume":{"size":3}}`, "overLimit", 413,
			"VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes quota. Requested 3G, quota is 10G and 8G has been consumed."},
		"unknown type":  {`{"volume":{"size":1,"volume_type":"nope"}}`, "itemNotFound", 404, "Volume type with name nope could not be found."},
		"unknown zone":  {`{"volume":{"size":1,"availability_zone":"nope"}}`, "badRequest", 400, "Availability zone 'nope' is invalid."},
		"no size":       {`{"volume":{}}`, "badRequest", 400, "Invalid input received: Volume size"},
		"unknown image": {`{"volume":{"size":1,"imageRef":"nope"}}`, "badRequest", 400, "Invalid image identifier or unable to access requested image."},
	} {
		t.Run(name, func(t *testing.T) {
			a := s.request("POST", strings.TrimSuffix(s.volumePath(""), "/"), c.body)
			if message := a.message(t, c.kind); a.status != c.status || !strings.HasPrefix(message, c.text) {
				t.Errorf("got %d %q, want %d %q", a.status, message, c.status, c.text)
			}
			if c.status == 413 && a.header.Get("Retry-After") == "" {
				t.Error("a quota refusal has no Retry-After")
			}
		})
	}
}

func TestABootVolumeGoesWithItsServerWhenAsked(t *testing.T) {
	for _, deleteIt := range []bool{true, false} {
		t.Run(fmt.Sprint(deleteIt), func(t *testing.T) {
			s := newTestCloud(t).demo()
			opts := s.serverOpts("node")
			image := opts.ImageRef
			opts.ImageRef = ""
			opts.BlockDevice = []servers.BlockDevice{{
				BootIndex: 0, UUID: image, SourceType: servers.SourceImage, DestinationType: servers.DestinationVolume,
				VolumeSize: 20, VolumeType: "ssd", DeleteOnTermination: deleteIt,
			}}
			server := s.created(opts)
			if len(server.AttachedVolumes) != 1 || len(server.Image) > 0 {
				t.Fatalf("volumes %v, image %v", server.AttachedVolumes, server.Image)
			}
			if v := s.expectVolume(server.AttachedVolumes[0].ID, "in-use"); v.VolumeType != "ssd" || v.Bootable != "true" {
				t.Errorf("volume %+v", v)
			}
			if err := servers.Delete(s.ctx(), s.compute(""), server.ID).ExtractErr(); err != nil {
				t.Fatal(err)
			}
			s.advance(aWhile)
			want := map[bool]int{true: 0, false: 1}[deleteIt]
			if got := s.sim.Objects().Total["volumes"]; got != want {
				t.Errorf("%d volumes left, want %d", got, want)
			}
		})
	}
}

func TestAServerCanBootFromAVolumeThatExists(t *testing.T) {
	s := newTestCloud(t).demo()
	root := s.volume(volumes.CreateOpts{Size: 20, ImageID: s.image(nodeImage)}).ID
	s.advance(aWhile)
	opts := s.serverOpts("node")
	opts.ImageRef = ""
	opts.BlockDevice = []servers.BlockDevice{{BootIndex: 0, UUID: root, SourceType: servers.SourceVolume, DestinationType: servers.DestinationVolume}}
	s.expectStatus(s.created(opts).ID, "ACTIVE")
	if v := s.expectVolume(root, "in-use"); v.Attachments[0].Device != "/dev/vda" {
		t.Errorf("attachments %+v", v.Attachments)
	}
	_, err := servers.Create(s.ctx(), s.compute("2.90"), opts, nil).Extract()
	expectCode(t, err, 400)
}

func TestVolumeListsFollowTheirFilters(t *testing.T) {
	c := newTestCloud(t)
	s := c.demo()
	for i, cluster := range []string{"a", "b", "a"} {
		s.volume(volumes.CreateOpts{Size: 1, Name: fmt.Sprint("v", i), Metadata: map[string]string{"cluster": cluster}})
		s.advance(time.Second)
	}
	names := func(opts volumes.ListOpts) string {
		pages := must[pagination.Page](t)(volumes.List(s.cinder(), opts).AllPages(s.ctx()))
		var got []string
		for _, v := range must[[]volumes.Volume](t)(volumes.ExtractVolumes(pages)) {
			got = append(got, v.Name)
		}
		return strings.Join(got, " ")
	}
	for want, opts := range map[string]volumes.ListOpts{
		"v2 v1 v0": {Limit: 1},
		"v1":       {Name: "v1"},
		"v2 v0":    {Metadata: map[string]string{"cluster": "a"}},
		"":         {Status: "error"},
	} {
		if got := names(opts); got != want {
			t.Errorf("%+v lists %q, want %q", opts, got, want)
		}
	}
}

func TestImagesAreFoundByNameTagAndID(t *testing.T) {
	s := newTestCloud(t, withScenario(func(sc *simulator.Scenario) {
		sc.Images = append(sc.Images, simulator.Image{Name: "tagged", Tags: []string{"gpu", "prod"}}, simulator.Image{Name: "queued", Status: "queued"})
	})).demo()
	count := func(query string) int {
		return strings.Count(s.request("GET", "/image/v2/images?"+query, "").body, `"checksum"`)
	}
	id := s.image("tagged")
	for query, want := range map[string]int{
		"": 7, "name=tagged": 1, "tag=gpu&tag=prod": 1, "tag=gpu&tag=dev": 0, "status=queued": 1, "name=nope": 0,
		"id=in:" + id + "," + s.image("queued"): 2, "architecture=x86_64": 5, "limit=1": 1,
	} {
		if got := count(query); got != want {
			t.Errorf("%q lists %d images, want %d", query, got, want)
		}
	}
	a := s.request("GET", "/image/v2/images/nope", "")
	if a.status != 404 || !strings.Contains(a.body, "No image found with ID nope") || !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") {
		t.Errorf("unknown image: %d %s", a.status, a.body)
	}
	_, err := servers.Create(s.ctx(), s.compute("2.90"), servers.CreateOpts{Name: "x", FlavorRef: s.flavor("m1.small"), ImageRef: s.image("queued"), Networks: "none"}, nil).Extract()
	expectCode(t, err, 400)
}

func TestAVolumePathOfAnotherProjectIsMalformed(t *testing.T) {
	s := newTestCloud(t).demo()
	a := s.request("GET", "/volume/v3/another/volumes", "")
	if got := a.message(t, "badRequest"); got != "Malformed request url" {
		t.Errorf("got %q", got)
	}
}
