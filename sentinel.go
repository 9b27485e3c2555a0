package pgcmd

import (
	"errors"
	"reflect"
	"runtime"
	"unsafe"
)

// errorString is the type of what errors.New returns.
var errorString = reflect.TypeOf(errors.New(""))

// sentinelText is the text of the first package-level error in err, and "" if there is
// none. Such an error, var ErrFunds = errors.New("insufficient funds"), is a constant of
// the program, so that its text can hold no value: it may be shown.
func sentinelText(err error) string {
	if isSentinel(err) {
		return err.Error()
	}
	switch err := err.(type) {
	case interface{ Unwrap() error }:
		return sentinelText(err.Unwrap())
	case interface{ Unwrap() []error }:
		for _, inner := range err.Unwrap() {
			if text := sentinelText(inner); text != "" {
				return text
			}
		}
	}
	return ""
}

// isSentinel reports whether err is of errors.New, and both it and its text were put into
// the program by the linker. An error that is made while the program runs is on the heap,
// and so is every text that is formatted, at the program's start, too.
func isSentinel(err error) bool {
	if reflect.TypeOf(err) != errorString {
		return false
	}
	pointer := reflect.ValueOf(err).UnsafePointer()
	if pointer == nil {
		return false
	}
	text := err.Error()
	return !onHeap(pointer) && text != "" && !onHeap(unsafe.Pointer(unsafe.StringData(text)))
}

// onHeap reports whether p points into memory that was allocated while the program runs.
// The runtime tells by what a cleanup is: there is none for what is never collected.
// Should a later one not tell, it would be by a cleanup for everything: then no error is
// a sentinel, and no text is shown.
func onHeap(p unsafe.Pointer) (heap bool) {
	defer func() {
		if recover() != nil { // the panic of AddCleanup for constants, which are in no block
			heap = false
		}
	}()
	cleanup := runtime.AddCleanup((*byte)(p), func(int) {}, 0)
	cleanup.Stop()
	return cleanup != runtime.Cleanup{}
}
