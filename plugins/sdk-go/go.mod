module pressroom

go 1.24
