// A plugin that pushes records to Grafana Loki as lines of JSON, a push for each batch. See README.md.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"pressroom"
	"pressroom/http"
)

func init() { pressroom.Register(&loki{}) }
func main() {}

// The labels of a record's stream: few values each, or Loki suffers.
type stream struct {
	kind, level string
}

// What Loki takes: https://grafana.com/docs/loki/latest/reference/loki-http-api/#ingest-logs
type push struct {
	Streams []*portion `json:"streams"`
}

type portion struct {
	Labels map[string]string `json:"stream"`
	// Nanoseconds since the epoch, as text, and the line.
	Values [][2]string `json:"values"`
}

type loki struct {
	url     string
	tenant  string
	timeout time.Duration
	labels  map[string]string
}

// Start reads the settings.
func (l *loki) Start() error {
	settings := struct {
		URL     string            `json:"url"`
		Tenant  string            `json:"tenant"`
		Timeout float64           `json:"timeout"`
		Labels  map[string]string `json:"labels"`
	}{URL: "http://127.0.0.1:3100/loki/api/v1/push", Timeout: 10}
	decoder := json.NewDecoder(bytes.NewReader([]byte(pressroom.ConfigJSON())))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&settings); err != nil {
		return fmt.Errorf("config: %w", err)
	}
	if settings.Timeout <= 0 {
		return errors.New("config: \"timeout\" must be a number of seconds above 0")
	}
	l.url, l.tenant = settings.URL, settings.Tenant
	l.timeout = time.Duration(settings.Timeout * float64(time.Second))
	l.labels = map[string]string{"job": "pressroom"}
	for name, value := range settings.Labels {
		if name == "kind" || name == "level" {
			return fmt.Errorf("config: \"labels.%s\" is a label that every stream has already", name)
		}
		l.labels[name] = value
	}
	return nil
}

func (l *loki) PublishEventMetrics(batch *pressroom.EventBatch) ([]pressroom.Unpublished, error) {
	columns := batch.Columns()
	lines, err := batch.Encode("json-lines")
	if err != nil {
		return nil, pressroom.Hold(err)
	}
	return nil, l.push("event", lines, columns.StartTime, columns.EndTime, func(row int) bool {
		return columns.Status[row] == pressroom.Failed
	})
}

func (l *loki) PublishNetworkMetrics(batch *pressroom.NetworkBatch) ([]pressroom.Unpublished, error) {
	columns := batch.Columns()
	lines, err := batch.Encode("json-lines")
	if err != nil {
		return nil, pressroom.Hold(err)
	}
	return nil, l.push("network", lines, columns.StartTime, columns.EndTime, func(row int) bool {
		return columns.Error.Present[row] != 0
	})
}

// push sends a batch: a line per row, at the time when it ended, or began if it has not.
func (l *loki) push(kind string, lines []byte, starts, ends []uint64, failed func(row int) bool) error {
	var body push
	streams := map[stream]*portion{}
	row := 0
	for line := range bytes.Lines(lines) {
		if row == len(starts) {
			break
		}
		at := ends[row]
		if at == 0 {
			at = starts[row]
		}
		level := "info"
		if failed(row) {
			level = "error"
		}
		of := streams[stream{kind, level}]
		if of == nil {
			of = &portion{Labels: map[string]string{"kind": kind, "level": level}}
			for name, value := range l.labels {
				of.Labels[name] = value
			}
			streams[stream{kind, level}] = of
			body.Streams = append(body.Streams, of)
		}
		of.Values = append(of.Values, [2]string{strconv.FormatUint(at, 10), string(bytes.TrimSuffix(line, []byte("\n")))})
		row++
	}
	if row != len(starts) {
		return pressroom.Reject(fmt.Errorf("%d rows came as %d lines", len(starts), row))
	}
	text, err := json.Marshal(body)
	if err != nil {
		return pressroom.Reject(err)
	}
	request := http.Request{
		Method: "POST", URL: l.url, Body: text, Timeout: l.timeout, MaxAnswer: 64 << 10,
		Headers: [][2]string{{"content-type", "application/json"}},
	}
	if l.tenant != "" {
		request.Headers = append(request.Headers, [2]string{"x-scope-orgid", l.tenant})
	}
	answer, err := http.Do(request)
	if err != nil {
		return err
	}
	return answer.Accepted()
}
