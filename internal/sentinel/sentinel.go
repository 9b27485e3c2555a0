// Package sentinel finds the package-level errors of a program, whose texts can hold no
// value and so may be shown. It does not know how an error is rendered.
package sentinel

import (
	"errors"
	"reflect"
	"runtime"
	"unsafe"
)

// errorString is the type of the errors that errors.New returns.
var errorString = reflect.TypeOf(errors.New(""))

// Text returns the text of the first package-level error in err, or "" if there is none.
// Such an error, var ErrFunds = errors.New("insufficient funds"), is a constant of the
// program, so that its text can hold no value.
func Text(err error) string {
	if isSentinel(err) {
		return err.Error()
	}
	switch err := err.(type) {
	case interface{ Unwrap() error }:
		return Text(err.Unwrap())
	case interface{ Unwrap() []error }:
		for _, inner := range err.Unwrap() {
			if text := Text(inner); text != "" {
				return text
			}
		}
	}
	return ""
}

// isSentinel reports whether err is of errors.New, and the linker put both it and its text
// into the program. An error that is made while the program runs is on the heap, and so is
// every text that is formatted, also when the program starts.
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
// The runtime adds no cleanup for memory that is never collected. If a later runtime adds
// one for everything, no error is a sentinel any more, and no text is shown.
func onHeap(p unsafe.Pointer) (heap bool) {
	defer func() {
		if recover() != nil { // AddCleanup panics for constants, which are in no block
			heap = false
		}
	}()
	cleanup := runtime.AddCleanup((*byte)(p), func(int) {}, 0)
	cleanup.Stop()
	return cleanup != runtime.Cleanup{}
}
