package cloud

import (
	"context"
	"errors"
	"net/http"
)

type wireVolume struct {
	ID          string            `json:"id"`
	ProjectID   string            `json:"os-vol-tenant-attr:tenant_id"`
	Name        string            `json:"name"`
	Status      string            `json:"status"`
	SizeGiB     int               `json:"size"`
	Type        string            `json:"volume_type"`
	Zone        string            `json:"availability_zone"`
	Metadata    map[string]string `json:"metadata"`
	Created     wireTime          `json:"created_at"`
	Attachments []struct {
		ServerID string `json:"server_id"`
	} `json:"attachments"`
}

func (w wireVolume) identity() string { return w.ID }
func (w wireVolume) project() string  { return w.ProjectID }
func (w wireVolume) object() object   { return w.volume() }

func (w wireVolume) volume() Volume {
	volume := Volume{
		ID: w.ID, Name: w.Name, Mark: MarkFromMetadata(w.Metadata), Status: w.Status,
		SizeGiB: w.SizeGiB, Type: w.Type, Zone: w.Zone, Metadata: w.Metadata, Created: w.Created.Time,
	}
	for _, attachment := range w.Attachments {
		volume.AttachedTo = append(volume.AttachedTo, attachment.ServerID)
	}
	volume.AttachedTo = sorted(volume.AttachedTo)
	return volume
}

type wireVolumeRequest struct {
	Name     string            `json:"name,omitempty"`
	SizeGiB  int               `json:"size"`
	Type     string            `json:"volume_type,omitempty"`
	Zone     string            `json:"availability_zone,omitempty"`
	ImageID  string            `json:"imageRef,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
}

// CreateVolume begins to create a volume.
func (s *Session) CreateVolume(ctx context.Context, request VolumeRequest) (Volume, error) {
	body := map[string]any{"volume": wireVolumeRequest{
		Name: request.Name, SizeGiB: request.SizeGiB, Type: request.Type, Zone: request.Zone,
		ImageID: request.ImageID, Metadata: request.Mark.Metadata(),
	}}
	var answer struct{ Volume wireVolume }
	if err := s.create(ctx, KindVolume, volumeService, "volumes", body, &answer); err != nil {
		return Volume{}, err
	}
	made := answer.Volume.volume()
	s.Inventory().created(made)
	return made, nil
}

// GetVolume asks for one volume.
func (s *Session) GetVolume(ctx context.Context, id string) (Volume, error) {
	var answer struct{ Volume wireVolume }
	if err := s.send(ctx, volumeService, http.MethodGet, "volumes/"+id, nil, &answer); err != nil {
		return Volume{}, err
	}
	seen := answer.Volume.volume()
	s.Inventory().observed(seen)
	return seen, nil
}

// DeleteVolume begins to delete a volume. While it is attached or busy that is a Conflict.
func (s *Session) DeleteVolume(ctx context.Context, id string) error {
	stays, err := s.removeSlowly(ctx, KindVolume, volumeService, "volumes/"+id)
	if err != nil {
		return inState(err)
	}
	if !stays {
		s.Inventory().deleted(KindVolume, id)
		return nil
	}
	amend(s.Inventory(), id, func(v *Volume) { v.Status = "deleting" })
	return nil
}

// inState gives Cinder's refusal of a volume in the wrong state the class of other services' 409: it
// answers 400, although the request of a deletion cannot be wrong.
func inState(err error) error {
	var classified *Error
	if errors.As(err, &classified) && classified.StatusCode == http.StatusBadRequest {
		conflict := *classified
		conflict.Class = Conflict
		return &conflict
	}
	return err
}
