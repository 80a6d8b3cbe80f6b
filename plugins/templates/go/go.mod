module example.com/forwarder

go 1.24

require pressroom v0.0.0

replace pressroom => ./pressroom
