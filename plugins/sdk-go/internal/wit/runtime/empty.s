// lets runtime.go declare functions without a body
