// Package http is HTTP out of a plugin, through the host: to the targets that the operator's `grant.http` names, and
// nowhere else. Credentials that the operator injects are added by the host: a plugin neither sees nor sets them. No
// redirect is followed.
//
//	answer, err := http.Post(url, "application/json", body)
//	if err == nil {
//		err = answer.Accepted()
//	}
//	return nil, err // what was denied is a hold, what a server refuses a reject, anything else a retry
package http

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"pressroom"
	handler "pressroom/internal/imports/wasi_http_outgoing_handler"
	types "pressroom/internal/imports/wasi_http_types"
	streams "pressroom/internal/imports/wasi_io_streams"
	"pressroom/internal/wit/types"
)

// MaxAnswer is the largest body of an answer that is read, in bytes, unless a Request says otherwise.
const MaxAnswer = 4 << 20

// A Request is what Post and Get leave out.
type Request struct {
	Method  string
	URL     string
	Headers [][2]string
	Body    []byte
	// Timeout is how long to wait for a connection, for the answer's first byte, and between bytes. 0: as long as the host
	// lets a call last.
	Timeout time.Duration
	// MaxAnswer is the largest body of an answer that is read; a larger one is an error. 0: MaxAnswer.
	MaxAnswer int
}

// A Response is an answer, whole.
type Response struct {
	Status int
	// Headers, names in lower case.
	Headers [][2]string
	Body    []byte
}

// Post sends body and waits for the answer. That a server says no is no error: see Accepted.
func Post(url, contentType string, body []byte) (*Response, error) {
	return Do(Request{Method: "POST", URL: url, Headers: [][2]string{{"content-type", contentType}}, Body: body})
}

// Get asks for url and waits for the answer.
func Get(url string) (*Response, error) { return Do(Request{Method: "GET", URL: url}) }

// Header is the first header of that name, which is given in lower case, or nothing.
func (r *Response) Header(name string) string {
	for _, header := range r.Headers {
		if header[0] == name {
			return header[1]
		}
	}
	return ""
}

// Accepted is nil where the status is of the kind 2xx, and otherwise what the status means for a batch: 408, 425, 429 and
// 5xx a retry (after Retry-After, if that is a number of seconds), 401, 403 and 404 a hold, any other a reject. The text
// shows the beginning of the body.
func (r *Response) Accepted() error {
	if r.Status >= 200 && r.Status < 300 {
		return nil
	}
	shown := strings.ToValidUTF8(strings.TrimSpace(string(r.Body[:min(len(r.Body), 200)])), "")
	err := fmt.Errorf("the server answered %d: %s", r.Status, shown)
	switch {
	case r.Status == 408 || r.Status == 425 || r.Status == 429 || r.Status >= 500:
		if seconds, bad := strconv.ParseUint(strings.TrimSpace(r.Header("retry-after")), 10, 31); bad == nil {
			return pressroom.RetryAfter(err, time.Duration(seconds)*time.Second)
		}
		return err
	case r.Status == 401 || r.Status == 403 || r.Status == 404:
		return pressroom.Hold(err)
	}
	return pressroom.Reject(err)
}

// ErrDenied is what an error is where the host did not let a request out. Its operator has to grant it, so it is a hold.
var ErrDenied = errors.New("the host's log says what to add to the grant")

// Do sends a request and reads the whole answer.
func Do(r Request) (*Response, error) {
	out, err := r.outgoing()
	if err != nil {
		return nil, err
	}
	defer out.Drop()
	body := out.Body().Ok()
	asked := handler.Handle(out, wit_types.Some(r.options()))
	if asked.IsErr() {
		body.Drop()
		return nil, r.failed(asked.Err())
	}
	future := asked.Ok()
	defer future.Drop()
	// A server may answer before it has read everything: then the answer says why.
	if write(body, r.Body) {
		types.OutgoingBodyFinish(body, wit_types.None[*types.Fields]())
	} else {
		body.Drop()
	}
	answered := future.Subscribe()
	answered.Block()
	answered.Drop()
	answer := future.Get().Some().Ok()
	if answer.IsErr() {
		return nil, r.failed(answer.Err())
	}
	incoming := answer.Ok()
	defer incoming.Drop()
	response := &Response{Status: int(incoming.Status())}
	headers := incoming.Headers()
	for _, header := range headers.Entries() {
		response.Headers = append(response.Headers, [2]string{strings.ToLower(header.F0), string(header.F1)})
	}
	headers.Drop()
	response.Body, err = r.read(incoming)
	return response, err
}

func (r Request) outgoing() (*types.OutgoingRequest, error) {
	target, err := url.Parse(r.URL)
	if err != nil || target.Host == "" || (target.Scheme != "http" && target.Scheme != "https") {
		return nil, pressroom.Hold(fmt.Errorf("%q is no address of the kind http://host/path", r.URL))
	}
	fields := types.MakeFields()
	headers := append([][2]string{}, r.Headers...)
	if len(r.Body) > 0 || r.Method == "POST" || r.Method == "PUT" {
		headers = append(headers, [2]string{"content-length", strconv.Itoa(len(r.Body))})
	}
	for _, header := range headers {
		if set := fields.Append(header[0], []byte(header[1])); set.IsErr() {
			fields.Drop()
			return nil, pressroom.Hold(fmt.Errorf("the header %s cannot be sent", header[0]))
		}
	}
	out := types.MakeOutgoingRequest(fields) // takes the fields
	scheme := types.MakeSchemeHttp()
	if target.Scheme == "https" {
		scheme = types.MakeSchemeHttps()
	}
	ok := out.SetMethod(method(r.Method)).IsOk() && out.SetScheme(wit_types.Some(scheme)).IsOk() &&
		out.SetAuthority(wit_types.Some(target.Host)).IsOk() &&
		out.SetPathWithQuery(wit_types.Some(target.RequestURI())).IsOk()
	if !ok {
		out.Drop()
		return nil, pressroom.Hold(fmt.Errorf("%s %s cannot be asked for", r.Method, r.URL))
	}
	return out, nil
}

func (r Request) options() *types.RequestOptions {
	options := types.MakeRequestOptions()
	if r.Timeout > 0 {
		timeout := wit_types.Some(uint64(r.Timeout.Nanoseconds()))
		options.SetConnectTimeout(timeout)
		options.SetFirstByteTimeout(timeout)
		options.SetBetweenBytesTimeout(timeout)
	}
	return options
}

// write hands the body over, and says whether all of it was taken.
func write(out *types.OutgoingBody, body []byte) bool {
	stream := out.Write().Ok()
	defer stream.Drop()
	ready := stream.Subscribe()
	defer ready.Drop()
	for len(body) > 0 {
		room := stream.CheckWrite()
		if room.IsErr() {
			return false
		}
		part := int(min(room.Ok(), uint64(len(body))))
		if part == 0 {
			ready.Block()
		} else if stream.Write(body[:part]).IsErr() {
			return false
		}
		body = body[part:]
	}
	return true
}

func (r Request) read(incoming *types.IncomingResponse) ([]byte, error) {
	most := r.MaxAnswer
	if most == 0 {
		most = MaxAnswer
	}
	in := incoming.Consume().Ok()
	defer in.Drop()
	stream := in.Stream().Ok()
	defer stream.Drop()
	var body []byte
	for {
		part := stream.BlockingRead(64 << 10)
		if part.IsErr() {
			broken := part.Err()
			if broken.Tag() == streams.StreamError_Closed {
				return body, nil
			}
			cause := broken.LastOperationFailed()
			defer cause.Drop()
			if code := types.HttpErrorCode(cause); code.IsSome() {
				return nil, r.failed(code.Some())
			}
			return nil, fmt.Errorf("%s: the answer broke off: %s", r.URL, cause.ToDebugString())
		}
		body = append(body, part.Ok()...)
		if len(body) > most {
			return nil, fmt.Errorf("%s: the answer is larger than %d bytes", r.URL, most)
		}
	}
}

func (r Request) failed(code types.ErrorCode) error {
	switch code.Tag() {
	case types.ErrorCode_HttpRequestDenied, types.ErrorCode_DestinationIpProhibited:
		return pressroom.Hold(fmt.Errorf("%s is not granted: %w", r.URL, ErrDenied))
	case types.ErrorCode_InternalError:
		if text := code.InternalError(); text.IsSome() {
			return fmt.Errorf("%s: %s", r.URL, text.Some())
		}
	}
	if int(code.Tag()) < len(codes) {
		return fmt.Errorf("%s: %s", r.URL, codes[code.Tag()])
	}
	return fmt.Errorf("%s: error %d", r.URL, code.Tag())
}

// What people are likely to see of error-code, in its order.
var codes = [...]string{
	"DNS timeout", "DNS error", "destination not found", "destination unavailable", "destination IP prohibited",
	"destination IP unroutable", "connection refused", "connection terminated", "connection timeout",
	"connection read timeout", "connection write timeout", "connection limit reached", "TLS protocol error",
	"TLS certificate error", "TLS alert received", "HTTP request denied",
}

func method(name string) types.Method {
	switch name {
	case "GET":
		return types.MakeMethodGet()
	case "HEAD":
		return types.MakeMethodHead()
	case "POST":
		return types.MakeMethodPost()
	case "PUT":
		return types.MakeMethodPut()
	case "DELETE":
		return types.MakeMethodDelete()
	case "PATCH":
		return types.MakeMethodPatch()
	}
	return types.MakeMethodOther(name)
}
