// Package rowscan reads the rows of a reply into memory of a row type that is known at run time only: a struct, a
// scalar, a map, or a type that scans itself. It does not know commands, and does not send anything.
package rowscan

import (
	"errors"
	"reflect"
	"unsafe"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgcmd/pgcmd/internal/structfields"
)

// A Buffer is memory for reading rows, which the next run can use again. Take one when the
// reply has begun: then a caller that waits for a connection holds none.
type Buffer struct {
	scanner
	row    reflect.Value   // one row, for what needs no more
	rowPtr any             // a pointer to it
	found  bool            // ScanRow read it
	chunk  reflect.Value   // a slice of rows
	full   []reflect.Value // the full chunks before it, which are not used again
	count  int             // of the rows in chunk
	used   int             // of the rows in chunk, those that may not be zero
	most   int             // rows of a chunk
}

// Buffer returns a buffer for rows of type t, which an earlier run may have used.
func (t *RowType) Buffer() *Buffer {
	if b, _ := t.buffers.Get().(*Buffer); b != nil {
		return b
	}
	return NewBuffer(t)
}

// Free gives the buffer to a later run. After an error or a panic it is not called, and the
// buffer is garbage.
func (b *Buffer) Free() {
	b.Recycle()
	b.rowType.buffers.Put(b)
}

// NewBuffer makes a buffer for rows of type t.
func NewBuffer(t *RowType) *Buffer {
	row := reflect.New(t.Type)
	b := &Buffer{row: row.Elem(), rowPtr: row.Interface(), most: maxPooledRows}
	b.rowType, b.place = t, row.UnsafePointer()
	return b
}

// SetChunk sets how many rows a chunk may have.
func (b *Buffer) SetChunk(rows int) { b.most = rows }

// Record passes every row that is a map to r; nil ends that.
func (b *Buffer) Record(r Recorder) { b.recorder = r }

// RowPointer returns a pointer to the row that is read by ScanRow.
func (b *Buffer) RowPointer() any { return b.rowPtr }

// ScanRow reads the current row into the buffer's own row.
func (b *Buffer) ScanRow(rows Rows) *Error {
	b.found = true
	return b.scan(rows, b.place)
}

// ClearRow makes the buffer's own row zero.
func (b *Buffer) ClearRow() { b.row.SetZero() }

// ScanNext adds the current row to those that were read.
func (b *Buffer) ScanNext(rows Rows) *Error {
	err := b.scan(rows, b.next())
	if err != nil {
		b.count-- // the rows before it can be used
	}
	return err
}

// Recycle makes the buffer ready for a later run, without what it held.
func (b *Buffer) Recycle() {
	b.recorder = nil
	b.Reset()
	if b.most > maxPooledRows {
		b.most, b.chunk, b.used = maxPooledRows, reflect.Value{}, 0
		b.release()
	}
}

// Reset makes the buffer empty.
func (b *Buffer) Reset() {
	b.row.SetZero()
	b.found = false
	b.texts = texts{}
	if b.used > 0 { // a large result must not make the small ones after it clear as much
		n := b.chunk.Len()
		b.chunk.SetLen(b.used)
		b.chunk.Clear()
		b.chunk.SetLen(n)
		b.used = 0
	}
	b.count = 0
	if b.full != nil {
		b.full = nil
		b.release()
	}
}

// release has the targets point to no chunk, which they would keep.
func (b *Buffer) release() {
	if b.rowType.throughPointer {
		b.mapping, b.types = nil, nil
	} else {
		b.pointAt(b.place)
	}
}

// The first chunk has firstChunk rows, and grows fourfold up to maxPooledRows. More rows go
// into chunks of as many.
const (
	firstChunk    = 16
	maxPooledRows = 4096
)

// next returns the place of the next row, which is zero.
func (b *Buffer) next() unsafe.Pointer {
	if !b.chunk.IsValid() {
		b.chunk = b.rowType.newChunk(firstChunk)
	} else if n := b.chunk.Len(); b.count == n {
		if n < b.most {
			larger := b.rowType.newChunk(min(4*n, b.most))
			reflect.Copy(larger, b.chunk)
			b.chunk = larger
		} else {
			b.full = append(b.full, b.chunk)
			b.chunk, b.count = b.rowType.newChunk(b.most), 0
		}
	}
	b.count++
	b.used = b.count
	// The place is within the array of the chunk, which has the row type's elements.
	return unsafe.Add(b.chunk.UnsafePointer(), uintptr(b.count-1)*b.rowType.Type.Size())
}

// newChunk makes a chunk of n rows: a variable, so that its length can be set.
func (t *RowType) newChunk(n int) reflect.Value {
	chunk := reflect.New(t.slice).Elem()
	chunk.Set(reflect.MakeSlice(t.slice, n, n))
	return chunk
}

// Len returns the number of rows.
func (b *Buffer) Len() int { return len(b.full)*b.most + b.count }

// At returns a pointer to row i of the chunk.
func (b *Buffer) At(i int) any { return b.chunk.Index(i).Addr().Interface() }

// MoveRow gives the row that ScanRow read to out, which stays zero if there was none.
func (b *Buffer) MoveRow(out reflect.Value) {
	switch {
	case !b.found:
	case b.rowType.pointer:
		row := reflect.New(b.rowType.Type)
		row.Elem().Set(b.row)
		out.Set(row)
	default:
		out.Set(b.row)
	}
}

// MoveRows gives the rows that ScanNext read to out, a slice that is nil.
func (b *Buffer) MoveRows(out reflect.Value) {
	n := b.Len()
	if n == 0 {
		out.Set(b.rowType.none)
		return
	}
	// One allocation of the exact size: a slice that grew would have been copied, and
	// thrown away, many times.
	out.Grow(n)
	out.SetLen(n)
	out.SetCap(n)
	if b.full == nil {
		reflect.Copy(out, b.chunk)
		return
	}
	for i, chunk := range append(b.full, b.chunk) {
		reflect.Copy(out.Slice(i*b.most, n), chunk)
	}
}

// A Recorder gets the rows that are maps, with the values that pgx has of their columns, to
// show them as PostgreSQL does.
type Recorder interface {
	Add(row map[string]any, columns []pgconn.FieldDescription, values []any, raw [][]byte, types *pgtype.Map)
}

// A scanner reads rows into memory of the row type.
type scanner struct {
	rowType  *RowType
	place    unsafe.Pointer // of the row that targets are made for
	mapping  *Mapping       // that targets was made for
	targets  []any          // pointers to the fields of the row that is read next
	plans    []pgtype.ScanPlan
	own      []pgtype.ScanPlan // for plans that others cannot use
	texts    texts             // of the result
	directs  *directPlan       // instead of plans, where they can; nil if nowhere
	types    *pgtype.Map       // that plans was made by, if they can be used again
	current  Row               // for a row type that scans itself, and for maps
	recorder Recorder          // nil if there is none
}

// Prepare makes the scanner ready for the columns of rows.
func (s *scanner) Prepare(rows Rows) *Error {
	if s.rowType.Kind == SelfScanner {
		s.current.replan()
		return nil
	}
	columns := rows.FieldDescriptions()
	m, err := s.rowType.cachedMapping(columns)
	if err != nil || s.rowType.Kind == Map {
		s.mapping = m
		return err
	}
	if s.mapping != m {
		s.mapping = m
		s.targets = s.fieldPointers(s.place)
		s.own, s.types = make([]pgtype.ScanPlan, len(columns)), nil
	}
	types := rows.TypeMap()
	if s.types == types {
		return nil
	}
	s.types, s.plans = nil, s.own
	cacher, caches := rows.(planCacher)
	switch {
	case m.builtinTypes && caches:
		s.plans, s.directs, err = cacher.PlanCache().plansFor(types, s.rowType, m, s.targets)
	case m.builtinTypes && rows.Conn() != nil:
		s.plans, s.directs, err = m.cachedPlans(types, s.rowType, s.targets)
	default:
		err = s.rowType.planColumns(types, m, s.targets, s.plans)
		s.directs = s.rowType.directPlanOf(types, m)
	}
	if err == nil && m.builtinTypes {
		s.types = types
	}
	return err
}

// fieldPointers returns pointers to the fields of the row at p that the columns are read
// into.
func (s *scanner) fieldPointers(p unsafe.Pointer) []any {
	return structfields.Pointers(reflect.NewAt(s.rowType.Type, p).Elem(), s.mapping.fields, true)
}

// pointAt has the targets point into the row at p.
//
// The targets are pointers, so that the data word of each interface value is the pointer
// itself. It is replaced by a pointer to the same field of another row: p points to memory
// of the row type, and the offset is that of a field of it. The store is one of an
// unsafe.Pointer, which the garbage collector sees.
func (s *scanner) pointAt(p unsafe.Pointer) {
	if s.rowType.throughPointer {
		copy(s.targets, s.fieldPointers(p))
		return
	}
	for i := range s.targets {
		target := (*struct{ typ, data unsafe.Pointer })(unsafe.Pointer(&s.targets[i]))
		target.data = unsafe.Add(p, s.mapping.offsets[i])
	}
}

// scan reads the current row into the row at p, which must be zero: a slice or a map of
// the row before must not be written into.
func (s *scanner) scan(rows Rows, p unsafe.Pointer) *Error {
	switch s.rowType.Kind {
	case Map:
		return s.scanMap(rows, (*map[string]any)(p))
	case SelfScanner:
		return s.scanItself(rows, reflect.NewAt(s.rowType.Type, p).Interface().(pgx.RowScanner))
	}
	values := rows.RawValues()
	if s.directs != nil {
		return s.scanDirect(rows, values, p)
	}
	s.pointAt(p)
	for i, raw := range values {
		if err := s.plans[i].Scan(raw, s.targets[i]); err != nil {
			return s.rowType.valueError(rows.TypeMap(), s.mapping, i, raw == nil, err)
		}
	}
	return nil
}

// scanItself calls the ScanRow method of the row. An error of Scan that ScanRow does not
// return is an error all the same, as with pgx's rows.
func (s *scanner) scanItself(rows Rows, row pgx.RowScanner) *Error {
	s.current.rows, s.current.err = rows, nil
	err := row.ScanRow(&s.current)
	if err == nil {
		err = s.current.err
	}
	s.current.rows = nil
	if err == nil {
		return nil
	}
	e := newError("", "the ScanRow method of %s failed", s.rowType.Type)
	if errors.Is(err, errNextInRow) {
		e.Message += ": it called Next, and is given one row at a time"
	}
	e.Err = err
	return e
}

func (s *scanner) scanMap(rows Rows, row *map[string]any) *Error {
	s.current.rows, s.current.err = rows, nil
	values, err := s.current.Values()
	var again []any
	if s.recorder != nil && err == nil {
		again, err = s.current.Values()
	}
	s.current.rows = nil
	if err != nil {
		e := newError("", "a column has a type that pgx cannot read without a field: select it with a cast, or use a struct")
		e.Err = err
		return e
	}
	m := make(map[string]any, len(values))
	for i, v := range values {
		m[s.mapping.Columns[i].Name] = v
	}
	if s.recorder != nil {
		s.recorder.Add(m, s.mapping.Columns, again, rows.RawValues(), rows.TypeMap())
	}
	*row = m
	return nil
}
