package main

// This does not compile, as the tests of a package that is being changed may not.
func TestMain(m *nosuchpackage.M) { panic("run") }
