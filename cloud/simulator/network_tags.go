package simulator

import (
	"net/http"
	"slices"
)

// longestTag is the limit of Neutron's tag plugin since Queens.
const longestTag = 255

// tagRoutes mounts the tag plugin's routes for one resource.
func (k resource[T]) tagRoutes(n *networkService, rt *router) {
	all := "/v2.0/" + k.path + "/{id}/tags"
	rt.handle("GET "+all, func(c *call) (reply, error) {
		object, err := k.find(c)
		if err != nil {
			return reply{}, err
		}
		return reply{status: http.StatusOK, body: fields{"tags": object.head().Tags}}, nil
	})
	rt.handle("PUT "+all, k.changeTags(n, func(c *call, _ []string) ([]string, reply, error) {
		var asked struct {
			Tags []string `json:"tags"`
		}
		if err := c.decode(&asked); err != nil {
			return nil, reply{}, err
		}
		wanted := []string{}
		for _, tag := range asked.Tags {
			if err := checkTag(tag); err != nil {
				return nil, reply{}, err
			}
			if !slices.Contains(wanted, tag) {
				wanted = append(wanted, tag)
			}
		}
		return wanted, reply{status: http.StatusOK, body: fields{"tags": wanted}}, nil
	}))
	rt.handle("DELETE "+all, k.changeTags(n, func(*call, []string) ([]string, reply, error) {
		return []string{}, reply{status: http.StatusNoContent}, nil
	}))
	rt.handle("GET "+all+"/{tag}", func(c *call) (reply, error) {
		object, err := k.find(c)
		if err == nil && !slices.Contains(object.head().Tags, c.id("tag")) {
			err = tagMissing(c.id("tag"))
		}
		return reply{status: http.StatusNoContent}, err
	})
	rt.handle("PUT "+all+"/{tag}", k.changeTags(n, func(c *call, tags []string) ([]string, reply, error) {
		if err := checkTag(c.id("tag")); err != nil {
			return nil, reply{}, err
		}
		return append(without(tags, c.id("tag")), c.id("tag")), reply{status: http.StatusCreated}, nil
	}))
	rt.handle("DELETE "+all+"/{tag}", k.changeTags(n, func(c *call, tags []string) ([]string, reply, error) {
		if !slices.Contains(tags, c.id("tag")) {
			return nil, reply{}, tagMissing(c.id("tag"))
		}
		return without(tags, c.id("tag")), reply{status: http.StatusNoContent}, nil
	}))
}

// changeTags replaces an object's tags with what change makes of them.
func (k resource[T]) changeTags(n *networkService, change func(c *call, tags []string) ([]string, reply, error)) handler {
	return func(c *call) (reply, error) {
		object, err := k.findToChange(c, "update")
		if err != nil {
			return reply{}, err
		}
		tags, answer, err := change(c, slices.Clone(object.head().Tags))
		if err != nil {
			return reply{}, err
		}
		object.head().Tags = tags
		n.touch(object)
		return answer, nil
	}
}

func checkTag(tag string) error {
	if tag == "" || len(tag) > longestTag {
		return invalidInput("tags", "'%s' exceeds maximum length of %d or is empty", tag, longestTag)
	}
	return nil
}

func tagMissing(tag string) *problem {
	return networkProblem(http.StatusNotFound, "TagNotFound", "Tag %s could not be found.", tag)
}
