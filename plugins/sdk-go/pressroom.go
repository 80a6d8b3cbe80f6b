// Package pressroom is what a publisher plugin in Go is written against. It is carried by Pressroom and copied into a
// plugin's source tree by `pressroom plugin new --lang go`; nothing is downloaded.
package pressroom

import (
	"errors"
	"fmt"
	"time"

	lifecycle "pressroom/internal/exports/export_pressroom_publisher_lifecycle"
	exports "pressroom/internal/exports/export_pressroom_publisher_publisher"
	_ "pressroom/internal/exports/wit_exports" // the entry points
	batches "pressroom/internal/imports/pressroom_publisher_batches"
	config "pressroom/internal/imports/pressroom_publisher_config"
	hostlog "pressroom/internal/imports/pressroom_publisher_log"
	publisher "pressroom/internal/imports/pressroom_publisher_publisher"
	records "pressroom/internal/imports/pressroom_publisher_records"
	"pressroom/internal/wit/types"
)

type (
	EventMetrics       = records.EventMetrics
	EventColumns       = records.EventColumns
	NetworkMetrics     = records.NetworkMetrics
	NetworkColumns     = records.NetworkColumns
	TextColumn         = records.TextColumn
	OptionalTextColumn = records.OptionalTextColumn
	AttributeColumns   = records.AttributeColumns
	Unpublished        = publisher.Unpublished
)

// A Plugin publishes. The rows that it returns are those that were left out, none as a rule; with an error nothing of the
// batch was published: Reject, Hold and RetryAfter say what is to become of it, any other error is a retry.
//
// It may also have `Start() error`, called once per instance before anything else, and `Flush() error`, called at the
// publisher's flush_interval and before the instance goes. Calls never overlap. A panic is a trap: the host shows its
// stack, discards the instance and brings the batch again.
type Plugin interface {
	PublishEventMetrics(*EventBatch) ([]Unpublished, error)
	PublishNetworkMetrics(*NetworkBatch) ([]Unpublished, error)
}

// Register makes p the plugin; call it from func init.
func Register(p Plugin) {
	exports.Events = func(b *batches.EventBatch) exports.Result {
		return answer(p.PublishEventMetrics(&EventBatch{b}))
	}
	exports.Network = func(b *batches.NetworkBatch) exports.Result {
		return answer(p.PublishNetworkMetrics(&NetworkBatch{b}))
	}
	lifecycle.OnStart = func() wit_types.Result[wit_types.Unit, string] {
		if s, ok := p.(interface{ Start() error }); ok {
			if err := s.Start(); err != nil {
				return wit_types.Err[wit_types.Unit](err.Error())
			}
		}
		return wit_types.Ok[wit_types.Unit, string](wit_types.Unit{})
	}
	lifecycle.OnFlush = func() wit_types.Result[wit_types.Unit, publisher.PublishError] {
		if s, ok := p.(interface{ Flush() error }); ok {
			if err := s.Flush(); err != nil {
				return wit_types.Err[wit_types.Unit](advice(err))
			}
		}
		return wit_types.Ok[wit_types.Unit, publisher.PublishError](wit_types.Unit{})
	}
}

func answer(left []Unpublished, err error) exports.Result {
	if err != nil {
		return wit_types.Err[[]Unpublished](advice(err))
	}
	return wit_types.Ok[[]Unpublished, publisher.PublishError](left)
}

type rejected struct{ error }

type later struct {
	error
	after time.Duration
}

type held struct{ error }

func (e rejected) Unwrap() error { return e.error }
func (e later) Unwrap() error    { return e.error }
func (e held) Unwrap() error     { return e.error }

// Reject says that the batch will never be published. Any other error means: try again.
func Reject(err error) error { return rejected{err} }

// Hold says that somebody must mend something first: a credential, a missing index.
func Hold(err error) error { return held{err} }

// RetryAfter says that the batch may be published after at least d.
func RetryAfter(err error, d time.Duration) error { return later{err, d} }

// RetryRow and RejectRow name a row that was left out of a batch that was published.
func RetryRow(row int, why string) Unpublished {
	return Unpublished{Row: uint32(row), Fate: publisher.MakeFateRetry(publisher.RetryAdvice{Reason: why, AfterMs: wit_types.None[uint64]()})}
}
func RejectRow(row int, why string) Unpublished {
	return Unpublished{Row: uint32(row), Fate: publisher.MakeFateReject(why)}
}

func advice(err error) publisher.PublishError {
	if r := (rejected{}); errors.As(err, &r) {
		return publisher.MakePublishErrorReject(r.Error())
	}
	if h := (held{}); errors.As(err, &h) {
		return publisher.MakePublishErrorHold(h.Error())
	}
	a := publisher.RetryAdvice{Reason: err.Error(), AfterMs: wit_types.None[uint64]()}
	if l := (later{}); errors.As(err, &l) {
		a.AfterMs = wit_types.Some(uint64(l.after.Milliseconds()))
	}
	return publisher.MakePublishErrorRetry(a)
}

// An EventBatch lives on the host and is valid until the call that brought it returns; what its methods return stays.
type EventBatch struct{ b *batches.EventBatch }

func (b *EventBatch) Len() int                { return int(b.b.Len()) }
func (b *EventBatch) Records() []EventMetrics { return b.b.Records() }
func (b *EventBatch) Columns() EventColumns   { return b.b.Columns() }
func (b *EventBatch) Encode(format string) ([]byte, error) {
	return bytesOf(b.b.Encode(format))
}

// A NetworkBatch is the same for network operations.
type NetworkBatch struct{ b *batches.NetworkBatch }

func (b *NetworkBatch) Len() int                  { return int(b.b.Len()) }
func (b *NetworkBatch) Records() []NetworkMetrics { return b.b.Records() }
func (b *NetworkBatch) Columns() NetworkColumns   { return b.b.Columns() }
func (b *NetworkBatch) Encode(format string) ([]byte, error) {
	return bytesOf(b.b.Encode(format))
}

func bytesOf(r wit_types.Result[[]uint8, string]) ([]byte, error) {
	if r.IsErr() {
		return nil, errors.New(r.Err())
	}
	return r.Ok(), nil
}

// Config is one setting of this publisher, as text; nested keys are joined by dots.
func Config(key string) (string, bool) {
	o := config.Get(key)
	if o.IsNone() {
		return "", false
	}
	return o.Some(), true
}

// ConfigJSON is every setting, as one JSON object.
func ConfigJSON() string { return config.GetAll() }

// Debugf writes into the host's log, under the publisher's label; so do those below.
func Debugf(format string, a ...any) { hostlog.Log(hostlog.Level_Debug, fmt.Sprintf(format, a...)) }
func Infof(format string, a ...any)  { hostlog.Log(hostlog.Level_Info, fmt.Sprintf(format, a...)) }
func Warnf(format string, a ...any)  { hostlog.Log(hostlog.Level_Warn, fmt.Sprintf(format, a...)) }
func Errorf(format string, a ...any) { hostlog.Log(hostlog.Level_Error, fmt.Sprintf(format, a...)) }

// Text is the text of a row of a column. It keeps the whole batch's texts in memory: strings.Clone what outlives the call.
func Text(column *TextColumn, row int) string {
	begin := uint32(0)
	if row > 0 {
		begin = column.Ends[row-1]
	}
	return column.Values[begin:column.Ends[row]]
}

// OptionalText is the text of a row that may be absent.
func OptionalText(column *OptionalTextColumn, row int) (string, bool) {
	return Text(&column.Column, row), column.Present[row] != 0
}

// The numbers in EventColumns.Status.
const (
	Pending   = 0
	Completed = 1
	Failed    = 2
	Cancelled = 3
)
