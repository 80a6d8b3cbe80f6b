module torture

go 1.24

require pressroom v0.0.0

replace pressroom => ../../../plugins/sdk-go
