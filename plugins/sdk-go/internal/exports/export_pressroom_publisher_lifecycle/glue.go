// Package export_pressroom_publisher_lifecycle is where the generated entry points hand over. Written by hand, once.
package export_pressroom_publisher_lifecycle

import (
	publisher "pressroom/internal/imports/pressroom_publisher_publisher"
	"pressroom/internal/wit/types"
)

var (
	OnStart func() wit_types.Result[wit_types.Unit, string]
	OnFlush func() wit_types.Result[wit_types.Unit, publisher.PublishError]
)

func Start() wit_types.Result[wit_types.Unit, string]                 { return OnStart() }
func Flush() wit_types.Result[wit_types.Unit, publisher.PublishError] { return OnFlush() }
