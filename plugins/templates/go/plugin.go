// A plugin that forwards: every batch, as JSON lines, in one POST to the setting "url".
package main

import (
	"errors"

	"pressroom"
	"pressroom/http"
)

func init() { pressroom.Register(&plugin{}) }
func main() {}

type plugin struct{}

func (p *plugin) PublishEventMetrics(events *pressroom.EventBatch) ([]pressroom.Unpublished, error) {
	return p.forward(events.Encode("json-lines")) // rendered by the host, at native speed
}

func (p *plugin) PublishNetworkMetrics(operations *pressroom.NetworkBatch) ([]pressroom.Unpublished, error) {
	return p.forward(operations.Encode("json-lines"))
}

func (p *plugin) forward(lines []byte, err error) ([]pressroom.Unpublished, error) {
	if err != nil {
		return nil, pressroom.Hold(err) // this host does not know the format
	}
	url, set := pressroom.Config("url")
	if !set {
		return nil, pressroom.Hold(errors.New("config: \"url\" is missing: where to forward to"))
	}
	answer, err := http.Post(url, "application/x-ndjson", lines)
	if err != nil {
		return nil, err
	}
	return nil, answer.Accepted() // nil: no row was left out, the host forgets them all
}
