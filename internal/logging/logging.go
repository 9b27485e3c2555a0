// Package logging makes the fields of log lines, and logs to a zap.Logger without the import of
// zap, which would link net/http.
package logging

import (
	"reflect"
	"time"

	"go.uber.org/zap/zapcore"
)

// A Logger is the part of a *zap.Logger that is used.
type Logger interface {
	Check(level zapcore.Level, message string) *zapcore.CheckedEntry
}

// OrNone returns the logger, or one that logs nothing if it is nil or holds a nil pointer.
func OrNone(l Logger) Logger {
	if v := reflect.ValueOf(l); !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		return none{}
	}
	return l
}

// IsNone reports whether OrNone has returned a logger that logs nothing.
func IsNone(l Logger) bool { return l == none{} }

type none struct{}

func (none) Check(zapcore.Level, string) *zapcore.CheckedEntry { return nil }

// Info logs a line.
func Info(l Logger, message string, fields ...zapcore.Field) {
	l.Check(zapcore.InfoLevel, message).Write(fields...) // a nil entry writes nothing
}

// Warn logs a line.
func Warn(l Logger, message string, fields ...zapcore.Field) {
	l.Check(zapcore.WarnLevel, message).Write(fields...)
}

// String makes a field.
func String(key, value string) zapcore.Field {
	return zapcore.Field{Key: key, Type: zapcore.StringType, String: value}
}

// Int makes a field.
func Int[T int | int32 | int64](key string, value T) zapcore.Field {
	return zapcore.Field{Key: key, Type: zapcore.Int64Type, Integer: int64(value)}
}

// Duration makes a field.
func Duration(key string, value time.Duration) zapcore.Field {
	return zapcore.Field{Key: key, Type: zapcore.DurationType, Integer: int64(value)}
}

// True makes a field that says true.
func True(key string) zapcore.Field {
	return zapcore.Field{Key: key, Type: zapcore.BoolType, Integer: 1}
}
