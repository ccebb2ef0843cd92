package cloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
)

func answered(method string, status int, body string, header ...string) error {
	headers := http.Header{}
	for i := 0; i+1 < len(header); i += 2 {
		headers.Set(header[i], header[i+1])
	}
	return fmt.Errorf("call: %w", gophercloud.ErrUnexpectedResponseCode{Method: method, Actual: status, Body: []byte(body), ResponseHeader: headers})
}

func TestAnswersOfTheServicesHaveAClassAndTheirOwnWords(t *testing.T) {
	cases := map[string]struct {
		err       error
		class     Class
		message   string
		uncertain bool
	}{
		"nova unknown flavor": {answered("POST", 400, `{"badRequest": {"code": 400, "message": "Flavor nope could not be found."}}`),
			Config, "Flavor nope could not be found.", false},
		"nova unknown server": {answered("GET", 404, `{"itemNotFound": {"code": 404, "message": "Instance x could not be found."}}`),
			Config, "Instance x could not be found.", false},
		"nova quota": {answered("POST", 403, `{"forbidden": {"code": 403, "message": "Quota exceeded for instances: Requested 1, but already used 9 of 9 instances"}}`),
			Quota, "Quota exceeded for instances: Requested 1, but already used 9 of 9 instances", false},
		"nova port quota": {answered("POST", 403, `{"forbidden": {"code": 403, "message": "Maximum number of ports exceeded"}}`),
			Quota, "Maximum number of ports exceeded", false},
		"nova policy": {answered("GET", 403, `{"forbidden": {"code": 403, "message": "Policy doesn't allow os_compute_api:os-hypervisors:list to be performed."}}`),
			Auth, "Policy doesn't allow os_compute_api:os-hypervisors:list to be performed.", false},
		"nova conflict": {answered("POST", 409, `{"conflictingRequest": {"code": 409, "message": "Cannot 'reboot' instance x while it is in task_state deleting"}}`),
			Conflict, "Cannot 'reboot' instance x while it is in task_state deleting", false},
		"nova fault": {answered("POST", 500, `{"computeFault": {"code": 500, "message": "Unexpected API Error."}}`),
			Transient, "Unexpected API Error.", true},
		"neutron quota": {answered("POST", 409, `{"NeutronError": {"type": "OverQuota", "message": "Quota exceeded for resources: ['port'].", "detail": ""}}`),
			Quota, "Quota exceeded for resources: ['port'].", false},
		"neutron in use": {answered("DELETE", 409, `{"NeutronError": {"type": "NetworkInUse", "message": "Unable to complete operation on network n. There are one or more ports still in use on the network.", "detail": ""}}`),
			Conflict, "Unable to complete operation on network n. There are one or more ports still in use on the network.", false},
		"neutron without addresses": {answered("POST", 409, `{"NeutronError": {"type": "IpAddressGenerationFailure", "message": "No more IP addresses available on network n.", "detail": ""}}`),
			Capacity, "No more IP addresses available on network n.", false},
		"cinder quota": {answered("POST", 413, `{"overLimit": {"code": 413, "message": "VolumeLimitExceeded: Maximum number of volumes allowed (10) exceeded for quota 'volumes'.", "retryAfter": "0"}}`, "Retry-After", "0"),
			Quota, "VolumeLimitExceeded: Maximum number of volumes allowed (10) exceeded for quota 'volumes'.", false},
		"octavia quota": {answered("POST", 403, `{"faultcode": "Client", "faultstring": "Quota has been met for resources: Load Balancer", "debuginfo": null}`),
			Quota, "Quota has been met for resources: Load Balancer", false},
		"octavia role missing": {answered("GET", 403, `{"faultcode": "Client", "faultstring": "Policy does not allow this request to be performed.", "debuginfo": null}`),
			Auth, "Policy does not allow this request to be performed.", false},
		"octavia immutable": {answered("PUT", 409, `{"faultcode": "Client", "faultstring": "Load Balancer x is immutable and cannot be updated.", "debuginfo": null}`),
			Conflict, "Load Balancer x is immutable and cannot be updated.", false},
		"octavia provider lacks a feature": {answered("POST", 501, `{"faultcode": "Server", "faultstring": "Provider 'ovn' does not support a requested option.", "debuginfo": null}`),
			Config, "Provider 'ovn' does not support a requested option.", false},
		"keystone": {answered("POST", 401, `{"error": {"code": 401, "message": "The request you have made requires authentication.", "title": "Unauthorized"}}`),
			Auth, "The request you have made requires authentication.", false},
		"glance page": {answered("GET", 404, "<html>\n <head>\n  <title>404 Not Found</title>\n </head>\n <body>\n  <h1>404 Not Found</h1>\n  No image found with ID x<br /><br />\n\n </body>\n</html>"),
			Config, "404 Not Found No image found with ID x", false},
		"haproxy":                  {answered("POST", 504, "<html><body><h1>504 Gateway Time-out</h1>\nThe server didn't respond in time.\n</body></html>"), Transient, "504 Gateway Time-out The server didn't respond in time.", true},
		"a gateway answers a list": {answered("GET", 502, ""), Transient, "bad gateway", false},
		"a gateway answers a delete": {answered("DELETE", 502, ""),
			Transient, "bad gateway", true},
		"overloaded":    {answered("POST", 503, "", "Retry-After", "7"), Throttled, "service unavailable", false},
		"too many":      {answered("GET", 429, `{"message": "slow down"}`), Throttled, "slow down", false},
		"unprocessable": {answered("POST", 422, `{"message": "no"}`), Config, "no", false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var got *Error
			if !errors.As(classifyAt("POST /x", c.err, time.Now()), &got) {
				t.Fatal("not classified")
			}
			if got.Class != c.class || got.Message != c.message || got.Uncertain != c.uncertain {
				t.Errorf("got %s %q uncertain=%t\nwant %s %q uncertain=%t", got.Class, got.Message, got.Uncertain, c.class, c.message, c.uncertain)
			}
		})
	}
}

func TestAnErrorKeepsItsClassAndItsCause(t *testing.T) {
	if classifyAt("GET /x", nil, time.Now()) != nil {
		t.Error("no error became one")
	}
	once := classifyAt("POST /servers", answered("POST", 403, `{"forbidden": {"message": "Quota exceeded"}}`, requestIDHeader, "req-1"), time.Now())
	twice := classifyAt("other", fmt.Errorf("create server: %w", once), time.Now())
	if !errors.Is(twice, once) {
		t.Errorf("classified again: %v", twice)
	}
	wantClass(t, once, Quota, "POST /servers", "HTTP 403", "req-1")
	if canceled := classifyAt("GET /x", context.Canceled, time.Now()); !errors.Is(canceled, context.Canceled) {
		t.Error("the cause is lost")
	}
}

func TestAnAnswerThatCannotBeReadMayBeASuccess(t *testing.T) {
	garbled := json.Unmarshal([]byte("{"), &struct{}{})
	if !IsUncertain(classifyAt("POST /servers", garbled, time.Now())) {
		t.Error("a POST whose answer is garbled may have had its effect")
	}
	if IsUncertain(classifyAt("GET /servers", garbled, time.Now())) {
		t.Error("a GET has no effect")
	}
}

func TestMessagesStayShort(t *testing.T) {
	var got *Error
	if !errors.As(classifyAt("", answered("GET", 500, strings.Repeat("ü", 10000)), time.Now()), &got) {
		t.Fatal("not classified")
	}
	if n := len([]rune(got.Message)); n > 501 {
		t.Errorf("%d characters", n)
	}
}

func TestFaultsOfServersHaveAClass(t *testing.T) {
	cases := map[string]Class{
		"No valid host was found. ":                                      Capacity,
		"No valid host was found. There are not enough hosts available.": Capacity,
		"Exceeded maximum number of retries. Exceeded max scheduling attempts 2 for instance 4cf5. Last exception: libvirt died": Capacity,
		"Insufficient compute resources: Free memory 100.00 MB < requested 8192 MB.":                                             Capacity,
		"Build of instance 4cf5 aborted: VolumeLimitExceeded: Maximum number of volumes allowed (10) exceeded for quota":         Quota,
		"Build of instance 4cf5 aborted: Quota exceeded for resources: ['port'].":                                                Quota,
		"Build of instance 4cf5 aborted: Image 77 is unacceptable: converted to raw, but format is now qcow2":                    Config,
		"Build of instance 4cf5 aborted: Flavor's disk is too small for requested image.":                                        Config,
		"Image 77 could not be found.": Config,
		"Build of instance 4cf5 aborted: Failed to allocate the network(s), not rescheduling.": Transient,
		"": Transient,
	}
	for message, want := range cases {
		if got := ClassifyFault(ServerFault{Code: 500, Message: message}); got != want {
			t.Errorf("%q is %s, want %s", message, got, want)
		}
	}
	// Details hold the traceback, which names the reason where the message does not.
	if got := ClassifyFault(ServerFault{Message: "MessagingTimeout", Details: "NoValidHost: No valid host was found."}); got != Capacity {
		t.Errorf("details are not read: %s", got)
	}
}
