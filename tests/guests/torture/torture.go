// A plugin that makes Go's collector work while the host hands over: what it reads it keeps for a while, and it makes garbage.
// At every flush it says how often the collector has run.
package main

import (
	"fmt"
	"runtime"
	"strings"

	"pressroom"
	"pressroom/http"
)

func init() { pressroom.Register(&torture{kept: make([]any, 12), byTask: map[string]int{}}) }
func main() {}

type torture struct {
	url    string
	kept   []any
	next   int
	byTask map[string]int
	rows   int
}

func (t *torture) Start() error {
	t.url, _ = pressroom.Config("url")
	return nil
}

func (t *torture) keep(what any) {
	t.kept[t.next%len(t.kept)] = what
	t.next++
}

// PublishEventMetrics reads a batch by every view, and fails loudly should they not agree.
func (t *torture) PublishEventMetrics(batch *pressroom.EventBatch) ([]pressroom.Unpublished, error) {
	columns := batch.Columns()
	records := batch.Records()
	lines, err := batch.Encode("json-lines")
	if err != nil {
		return nil, err
	}
	if len(records) != batch.Len() || strings.Count(string(lines), "\n") != batch.Len() {
		panic("a view lost rows")
	}
	for row, record := range records {
		task := pressroom.Text(&columns.TaskId, row)
		if task != record.TaskId || record.Id != pressroom.Text(&columns.Id, row) {
			panic(fmt.Sprintf("row %d: %q is %q", row, record.TaskId, task))
		}
		t.byTask[strings.Clone(task)]++
	}
	t.rows += len(records)
	// Kept over many collections, and compared when they go.
	if old, ok := t.kept[t.next%len(t.kept)].([]pressroom.EventMetrics); ok && old[0].TaskId != records[0].TaskId {
		panic("what was kept has changed")
	}
	t.keep(records)
	t.keep(columns)
	if len(t.byTask) > 5000 {
		t.byTask = map[string]int{}
	}
	if t.url != "" {
		answer, err := http.Post(t.url, "application/x-ndjson", lines)
		if err != nil {
			return nil, err
		}
		return nil, answer.Accepted()
	}
	return nil, nil
}

func (t *torture) PublishNetworkMetrics(*pressroom.NetworkBatch) ([]pressroom.Unpublished, error) {
	return nil, nil
}

// Flush panics if it was no torture.
func (t *torture) Flush() error {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	pressroom.Infof("%d rows, %d collections", t.rows, stats.NumGC)
	// The host may have begun a new instance, when its optimised code was ready.
	if batches := t.rows / 1024; int(stats.NumGC) < batches/10 {
		return fmt.Errorf("the collector ran %d times in %d batches", stats.NumGC, batches)
	}
	return nil
}
