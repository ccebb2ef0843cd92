package cloud

import "context"

// ComputeZones are Nova's availability zones.
func (s *Session) ComputeZones(ctx context.Context) ([]Zone, error) {
	return s.zones(ctx, computeService)
}

// VolumeZones are Cinder's availability zones.
func (s *Session) VolumeZones(ctx context.Context) ([]Zone, error) {
	return s.zones(ctx, volumeService)
}

// zones asks Nova and Cinder, which answer alike.
func (s *Session) zones(ctx context.Context, of service) ([]Zone, error) {
	return s.lookups.zones.get(ctx, of, func(ctx context.Context) ([]Zone, error) {
		var answer struct {
			Zones []struct {
				Name  string `json:"zoneName"`
				State struct {
					Available bool `json:"available"`
				} `json:"zoneState"`
			} `json:"availabilityZoneInfo"`
		}
		if err := s.read(ctx, of, "os-availability-zone", &answer); err != nil {
			return nil, err
		}
		zones := make([]Zone, len(answer.Zones))
		for i, zone := range answer.Zones {
			zones[i] = Zone{Name: zone.Name, Available: zone.State.Available}
		}
		return zones, nil
	})
}
