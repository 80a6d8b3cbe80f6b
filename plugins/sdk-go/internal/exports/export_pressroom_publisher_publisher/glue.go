// Package export_pressroom_publisher_publisher is where the generated entry points hand over. Written by hand, once.
package export_pressroom_publisher_publisher

import (
	batches "pressroom/internal/imports/pressroom_publisher_batches"
	publisher "pressroom/internal/imports/pressroom_publisher_publisher"
	"pressroom/internal/wit/types"
)

type Result = wit_types.Result[[]publisher.Unpublished, publisher.PublishError]

var (
	Events  func(*batches.EventBatch) Result
	Network func(*batches.NetworkBatch) Result
)

func PublishEventMetrics(events *batches.EventBatch) Result {
	defer events.Drop() // a borrow must be given back before the call ends; the generated code does not
	return Events(events)
}

func PublishNetworkMetrics(operations *batches.NetworkBatch) Result {
	defer operations.Drop()
	return Network(operations)
}
