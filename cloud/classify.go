package cloud

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"
)

// classify gives an error of a request its class, and digs the cloud's own words out of it. An
// error that has a class keeps it; nil stays nil.
func (s *Session) classify(operation string, err error) error {
	return classifyAt(operation, err, s.clock.Now())
}

func classifyAt(operation string, err error, now time.Time) error {
	if err == nil {
		return nil
	}
	var classified *Error
	if errors.As(err, &classified) {
		if classified.Operation != "" || operation == "" {
			return classified
		}
		named := *classified
		named.Operation = operation
		return &named
	}
	var answer gophercloud.ErrUnexpectedResponseCode
	if errors.As(err, &answer) {
		return classifyAnswer(operation, answer, now)
	}
	return classifyFailure(operation, err)
}

// classifyAnswer judges an answer with an unexpected status.
func classifyAnswer(operation string, answer gophercloud.ErrUnexpectedResponseCode, now time.Time) *Error {
	message := answerText(answer.Body)
	if message == "" {
		message = strings.ToLower(cmp.Or(http.StatusText(answer.Actual), "unknown status"))
	}
	classified := &Error{
		Class:      classOfAnswer(answer.Actual, string(answer.Body)),
		Operation:  operation,
		Message:    message,
		StatusCode: answer.Actual,
		RequestID:  cmp.Or(answer.ResponseHeader.Get(requestIDHeader), answer.ResponseHeader.Get("X-Compute-Request-Id")),
		RetryAfter: min(retryAfter(answer.ResponseHeader, now), longestPause),
		Err:        answer,
	}
	if classified.Class == Transient && classified.RetryAfter > 0 && answer.Actual == http.StatusServiceUnavailable {
		classified.Class = Throttled
	}
	// A gateway answers 502 to 504 for a service that may have done its work, and Nova and Neutron
	// answer 500 when they fail after the database commit.
	classified.Uncertain = classified.Class == Transient && writes(answer.Method)
	return classified
}

// overQuota finds the four ways the services say that a limit is reached: Nova "Quota exceeded for
// instances", Neutron the type OverQuota, Cinder the key overLimit, Octavia "Quota has been met".
var overQuota = regexp.MustCompile(`(?i)quota exceeded|exceeded for quota|over_?quota|over_?limit|exceeds allowed .*quota|quota has been met|maximum number of (instances|ports|volumes|floating ips|security groups|networks) exceeded`)

// noAddressLeft finds the Neutron errors of an exhausted subnet or external network.
var noAddressLeft = regexp.MustCompile(`IpAddressGenerationFailure|ExternalIpAddressExhausted|(?i)no more ip addresses available`)

func classOfAnswer(status int, body string) Class {
	switch {
	case status == http.StatusUnauthorized:
		return Auth
	case status == http.StatusTooManyRequests:
		return Throttled
	case status == http.StatusForbidden && overQuota.MatchString(body),
		status == http.StatusConflict && overQuota.MatchString(body),
		status == http.StatusBadRequest && overQuota.MatchString(body),
		status == http.StatusRequestEntityTooLarge && overQuota.MatchString(body):
		return Quota
	case status == http.StatusForbidden:
		return Auth
	case status == http.StatusConflict && noAddressLeft.MatchString(body):
		return Capacity
	case status == http.StatusConflict:
		return Conflict
	case status == http.StatusRequestTimeout:
		return Transient
	case status >= 500 && status != http.StatusNotImplemented:
		return Transient
	}
	return Config
}

// writes reports that a request changes something when it succeeds.
func writes(method string) bool {
	return method != "" && method != http.MethodGet && method != http.MethodHead
}

// classifyFailure judges a request that got no answer, or one that made no sense.
func classifyFailure(operation string, err error) *Error {
	classified := &Error{Class: Transient, Operation: operation, Message: failureText(err), Err: err}
	var sent *sendError
	if errors.As(err, &sent) {
		classified.RequestID = sent.requestID
		classified.Operation = cmp.Or(operation, sent.operation)
	}
	// An answer that cannot be read may be that of a success.
	method, _, _ := strings.Cut(classified.Operation, " ")
	classified.Uncertain = writes(method) && !neverArrived(err)
	if message := untrusted(err); message != "" {
		classified.Class, classified.Message = Config, message
	}
	return classified
}

// failureText leaves out the URL that net/http puts before its errors; the operation says it better.
func failureText(err error) string {
	var sent *sendError
	if errors.As(err, &sent) {
		err = sent.err
	}
	var located *url.Error
	if errors.As(err, &located) {
		err = located.Err
	}
	switch {
	case errors.Is(err, context.Canceled):
		return "the request was given up"
	case err.Error() == context.DeadlineExceeded.Error(): // alone, without the operation that timed out
		return "the time for the request ran out"
	}
	return err.Error()
}

// neverArrived reports that the request did not leave or no connection came about, so that it cannot
// have had an effect.
func neverArrived(err error) bool {
	var sent *sendError
	if errors.As(err, &sent) && sent.requestID == "" {
		return true
	}
	var operation *net.OpError
	if errors.As(err, &operation) && operation.Op == "dial" {
		return true
	}
	var resolution *net.DNSError
	return errors.As(err, &resolution) || untrusted(err) != ""
}

// untrusted explains a certificate that does not check out; empty for any other error.
func untrusted(err error) string {
	var verification *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	if !errors.As(err, &verification) && !errors.As(err, &authority) && !errors.As(err, &host) {
		return ""
	}
	return fmt.Sprintf("the cloud's certificate is not trusted: %v; put its certificate authority (PEM) into cacert", failureText(err))
}

// answerText digs the service's own text out of an error body. Each service has its own shape:
//
//	Nova, Cinder  {"badRequest": {"code": 400, "message": "…"}}
//	Keystone      {"error": {"code": 401, "message": "…", "title": "Unauthorized"}}
//	Neutron       {"NeutronError": {"type": "OverQuota", "message": "…", "detail": ""}}
//	Octavia       {"faultcode": "Client", "faultstring": "…", "debuginfo": null}
//	Placement     {"errors": [{"status": 403, "title": "Forbidden", "detail": "…"}]}
//	Glance        an HTML page, and gateways too
func answerText(body []byte) string {
	var fields map[string]json.RawMessage
	if json.Unmarshal(body, &fields) != nil {
		return textOfPage(string(body))
	}
	var several []struct {
		Detail json.RawMessage `json:"detail"`
	}
	if json.Unmarshal(fields["errors"], &several) == nil && len(several) > 0 {
		return clip(jsonText(several[0].Detail))
	}
	for _, key := range []string{"faultstring", "message", "description"} {
		if text := jsonText(fields[key]); text != "" {
			return clip(text)
		}
	}
	for _, value := range fields {
		var inner struct {
			Message json.RawMessage `json:"message"`
			Detail  json.RawMessage `json:"detail"`
		}
		if json.Unmarshal(value, &inner) == nil && jsonText(inner.Message) != "" {
			return clip(jsonText(inner.Message))
		}
		if text := jsonText(value); text != "" { // {"NeutronError": "…"} of old extensions
			return clip(text)
		}
	}
	return ""
}

// jsonText is a JSON value that is a string, else empty.
func jsonText(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) != nil {
		return ""
	}
	return strings.Join(strings.Fields(text), " ")
}

var (
	pageHead = regexp.MustCompile(`(?is)<(head|script|style).*?</(head|script|style)>`)
	pageTag  = regexp.MustCompile(`<[^>]*>`)
)

// textOfPage is what a person would read of an HTML or plain answer.
func textOfPage(page string) string {
	page = pageTag.ReplaceAllString(pageHead.ReplaceAllString(page, " "), " ")
	return clip(strings.Join(strings.Fields(page), " "))
}

// clip keeps a message fit for a condition.
func clip(text string) string {
	const longest = 500 // characters
	runes := []rune(text)
	if len(runes) <= longest {
		return text
	}
	return string(runes[:longest]) + "…"
}

// The texts of Nova's faults, by what they mean.
var (
	faultOfQuota    = regexp.MustCompile(`(?i)quota|exceeds allowed|over ?limit|limit ?exceeded|maximum number of (ports|volumes) exceeded`)
	faultOfCapacity = regexp.MustCompile(`(?i)no valid host|max scheduling attempts|maximum number of retries|insufficient compute resources|not enough (hosts|memory|resources)|allocation candidates|no available (pci|host)|insufficient free`)
	faultOfConfig   = regexp.MustCompile(`(?i)image .*(could not be found|is unacceptable|not active|not found)|unacceptable image|flavor .*(could not be found|not found|too small|too large|disk)|flavor's (disk|memory|ram)|is too small for|requested image|invalid (bdm|block device)|block device mapping is invalid`)
)

// ClassifyFault says what kind of trouble put a server into ERROR.
func ClassifyFault(fault ServerFault) Class {
	text := fault.Message + " " + fault.Details
	switch {
	case faultOfQuota.MatchString(fault.Message):
		return Quota
	case faultOfConfig.MatchString(fault.Message):
		return Config
	case faultOfCapacity.MatchString(text):
		return Capacity
	case faultOfConfig.MatchString(text):
		return Config
	}
	return Transient
}
