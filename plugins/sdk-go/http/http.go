// Package http is HTTP out of a plugin, through the host: only to the targets that the host allows.
package http

import (
	"fmt"
	"net/url"

	handler "pressroom/internal/imports/wasi_http_outgoing_handler"
	"pressroom/internal/imports/wasi_http_types"
	streams "pressroom/internal/imports/wasi_io_streams"
	"pressroom/internal/wit/types"
)

type Response struct {
	Status int
	Body   []byte
}

// Do sends one request and reads the whole answer (up to max bytes).
func Do(method, target string, headers [][2]string, body []byte, max int) (*Response, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	fields := wasi_http_types.MakeFields()
	for _, h := range headers {
		if r := fields.Append(h[0], []byte(h[1])); r.IsErr() {
			return nil, fmt.Errorf("header %q is not allowed", h[0])
		}
	}
	if r := fields.Append("content-length", fmt.Append(nil, len(body))); r.IsErr() {
		return nil, fmt.Errorf("content-length refused")
	}
	req := wasi_http_types.MakeOutgoingRequest(fields) // takes the fields
	defer req.Drop()
	req.SetMethod(methodOf(method))
	scheme := wasi_http_types.MakeSchemeHttp()
	if u.Scheme == "https" {
		scheme = wasi_http_types.MakeSchemeHttps()
	}
	req.SetScheme(wit_types.Some(scheme))
	req.SetAuthority(wit_types.Some(u.Host))
	req.SetPathWithQuery(wit_types.Some(u.RequestURI()))
	out := req.Body().Ok()
	answer := handler.Handle(req, wit_types.None[*wasi_http_types.RequestOptions]())
	if answer.IsErr() {
		out.Drop()
		return nil, fmt.Errorf("%s %s: %s", method, target, text(answer.Err()))
	}
	future := answer.Ok()
	defer future.Drop()
	sent := write(out, body)
	p := future.Subscribe()
	p.Block()
	p.Drop()
	got := future.Get().Some().Ok()
	if got.IsErr() {
		return nil, fmt.Errorf("%s %s: %s", method, target, text(got.Err()))
	}
	resp := got.Ok()
	defer resp.Drop()
	r := &Response{Status: int(resp.Status())}
	in := resp.Consume().Ok()
	defer in.Drop()
	s := in.Stream().Ok()
	defer s.Drop()
	for len(r.Body) < max {
		part := s.BlockingRead(uint64(min(max-len(r.Body), 64<<10)))
		if part.IsErr() {
			if part.Err().Tag() == streams.StreamError_Closed {
				break
			}
			return nil, fmt.Errorf("%s %s: the answer broke off", method, target)
		}
		r.Body = append(r.Body, part.Ok()...)
	}
	if sent != nil && r.Status < 300 {
		return nil, fmt.Errorf("%s %s: %w", method, target, sent)
	}
	return r, nil
}

func write(out *wasi_http_types.OutgoingBody, body []byte) error {
	s := out.Write().Ok()
	ready := s.Subscribe()
	var err error
	for len(body) > 0 && err == nil {
		room := s.CheckWrite()
		if room.IsErr() {
			err = fmt.Errorf("the connection was closed while sending")
			break
		}
		n := min(int(room.Ok()), len(body))
		if n == 0 {
			ready.Block()
			continue
		}
		if w := s.Write(body[:n]); w.IsErr() {
			err = fmt.Errorf("the connection was closed while sending")
		}
		body = body[n:]
	}
	if err == nil {
		s.Flush()
	}
	ready.Drop()
	s.Drop()
	if f := wasi_http_types.OutgoingBodyFinish(out, wit_types.None[*wasi_http_types.Fields]()); f.IsErr() && err == nil {
		err = fmt.Errorf("%s", text(f.Err()))
	}
	return err
}

func methodOf(m string) wasi_http_types.Method {
	switch m {
	case "GET":
		return wasi_http_types.MakeMethodGet()
	case "PUT":
		return wasi_http_types.MakeMethodPut()
	case "POST":
		return wasi_http_types.MakeMethodPost()
	}
	return wasi_http_types.MakeMethodOther(m)
}

func text(e wasi_http_types.ErrorCode) string { return fmt.Sprintf("error %d", e.Tag()) }
