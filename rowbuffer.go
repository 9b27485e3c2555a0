package pgcmd

import (
	"context"
	"errors"
	"reflect"
	"unsafe"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/pgcmd/pgcmd/internal/structfields"
)

// A rowBuffer is memory for reading rows, which the next run can use again. It is taken
// when the reply has begun: a caller that waits for a connection holds none, so that under
// load few are used, and are in the processor's cache.
type rowBuffer struct {
	rowScanner
	row    reflect.Value   // one row, for what needs no more
	rowPtr any             // a pointer to it
	chunk  reflect.Value   // a slice of rows
	full   []reflect.Value // the full chunks before it, which are not used again
	count  int             // of the rows in chunk
	most   int             // rows of a chunk
}

func (q *query) getRowBuffer() *rowBuffer {
	b, _ := q.rowBuffers.Get().(*rowBuffer)
	if b == nil {
		row := reflect.New(q.rowType.typ)
		b = &rowBuffer{row: row.Elem(), rowPtr: row.Interface(), most: maxPooledRows}
		b.rowType, b.place = q.rowType, row.UnsafePointer()
	}
	return b
}

// rowBufferFor is the row buffer of a run, which keeps rows that are to be shown.
func (q *query) rowBufferFor(ctx context.Context) *rowBuffer {
	if q.rowType == nil {
		return nil
	}
	b := q.getRowBuffer()
	if q.rowType.kind == mapRow {
		b.shown = shownRowsOf(ctx)
	}
	return b
}

// putRowBuffer gives the buffer to a later run, without what it held. After an error or a
// panic it is not called, and the buffer is garbage.
func (q *query) putRowBuffer(b *rowBuffer) {
	if b != nil {
		b.shown = nil
		b.reset()
		if b.most > maxPooledRows {
			b.most, b.chunk = maxPooledRows, reflect.Value{}
			b.release()
		}
		q.rowBuffers.Put(b)
	}
}

// reset makes the buffer empty.
func (b *rowBuffer) reset() {
	b.row.SetZero()
	if b.count > 0 {
		b.chunk.Clear()
	}
	b.count = 0
	if b.full != nil {
		b.full = nil
		b.release()
	}
}

// release has the targets point to no chunk, which they would keep.
func (b *rowBuffer) release() {
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
func (b *rowBuffer) next() unsafe.Pointer {
	if !b.chunk.IsValid() {
		b.chunk = reflect.MakeSlice(b.rowType.slice, firstChunk, firstChunk)
	} else if n := b.chunk.Len(); b.count == n {
		if n < b.most {
			larger := reflect.MakeSlice(b.rowType.slice, min(4*n, b.most), min(4*n, b.most))
			reflect.Copy(larger, b.chunk)
			b.chunk = larger
		} else {
			b.full = append(b.full, b.chunk)
			b.chunk, b.count = reflect.MakeSlice(b.rowType.slice, b.most, b.most), 0
		}
	}
	b.count++
	// Within the array of the chunk, which has the row type's elements.
	return unsafe.Add(b.chunk.UnsafePointer(), uintptr(b.count-1)*b.rowType.typ.Size())
}

// len returns the number of rows.
func (b *rowBuffer) len() int { return len(b.full)*b.most + b.count }

// at returns a pointer to row i of the chunk.
func (b *rowBuffer) at(i int) any { return b.chunk.Index(i).Addr().Interface() }

// moveTo gives what was read to out: the only row of a QueryOne, or a slice of all.
func (b *rowBuffer) moveTo(out reflect.Value, kind queryKind) {
	if kind == queryOne {
		out.Set(b.row)
		return
	}
	n := b.len()
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

// A rowScanner reads rows into memory of the row type.
type rowScanner struct {
	rowType *rowType
	place   unsafe.Pointer // of the row that targets are made for
	mapping *columnMapping // that targets was made for
	targets []any          // pointers to the fields of the row that is read next
	plans   []pgtype.ScanPlan
	own     []pgtype.ScanPlan // for plans that others cannot use
	types   *pgtype.Map       // that plans was made by, if they can be used again
	current currentRow        // for a row type that scans itself, and for maps
	shown   *shownRows        // keeps the rows that are maps; nil if they are not to be shown
}

// prepare makes the scanner ready for the columns of rows.
func (s *rowScanner) prepare(rows resultRows) *Error {
	if s.rowType.kind == scannerRow {
		s.current.replan()
		return nil
	}
	columns := rows.FieldDescriptions()
	m, err := s.rowType.cachedMapping(columns)
	if err != nil || s.rowType.kind == mapRow {
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
	if m.builtinTypes && rows.Conn() != nil {
		s.plans, err = m.cachedPlans(types, s.rowType, s.targets)
	} else {
		err = s.rowType.planColumns(types, m, s.targets, s.plans)
	}
	if err == nil && m.builtinTypes {
		s.types = types
	}
	return err
}

// fieldPointers returns pointers to the fields of the row at p that the columns are read
// into.
func (s *rowScanner) fieldPointers(p unsafe.Pointer) []any {
	return structfields.Pointers(reflect.NewAt(s.rowType.typ, p).Elem(), s.mapping.fields, true)
}

// pointAt has the targets point into the row at p.
//
// The targets are pointers, so that the data word of each interface value is the pointer
// itself. It is replaced by a pointer to the same field of another row: p points to memory
// of the row type, and the offset is that of a field of it. The store is one of an
// unsafe.Pointer, which the garbage collector sees.
func (s *rowScanner) pointAt(p unsafe.Pointer) {
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
func (s *rowScanner) scan(rows resultRows, p unsafe.Pointer) *Error {
	switch s.rowType.kind {
	case mapRow:
		return s.scanMap(rows, (*map[string]any)(p))
	case scannerRow:
		return s.scanItself(rows, reflect.NewAt(s.rowType.typ, p).Interface().(pgx.RowScanner))
	}
	s.pointAt(p)
	for i, raw := range rows.RawValues() {
		if err := s.plans[i].Scan(raw, s.targets[i]); err != nil {
			return s.rowType.valueError(rows.TypeMap(), s.mapping, i, raw == nil, err)
		}
	}
	return nil
}

// scanItself leaves the row to its type. An error of Scan that it does not return is one
// all the same, as with pgx's rows.
func (s *rowScanner) scanItself(rows resultRows, row pgx.RowScanner) *Error {
	s.current.rows, s.current.err = rows, nil
	err := row.ScanRow(&s.current)
	if err == nil {
		err = s.current.err
	}
	s.current.rows = nil
	if err == nil {
		return nil
	}
	e := newScanError("", "the ScanRow method of %s failed", s.rowType.typ)
	if errors.Is(err, errNextInRow) {
		e.Message += ": it called Next, and is given one row at a time"
	}
	e.Err = err
	return e
}

func (s *rowScanner) scanMap(rows resultRows, row *map[string]any) *Error {
	s.current.rows, s.current.err = rows, nil
	values, err := s.current.Values()
	var again []any
	if s.shown != nil && err == nil {
		again, err = s.current.Values()
	}
	s.current.rows = nil
	if err != nil {
		e := newScanError("", "a column has a type that pgx cannot read without a field: select it with a cast, or use a struct")
		e.Err = err
		return e
	}
	m := make(map[string]any, len(values))
	for i, v := range values {
		m[s.mapping.columns[i].Name] = v
	}
	if s.shown != nil {
		s.shown.add(m, s.mapping, again, rows)
	}
	*row = m
	return nil
}

// collectRows reads every row, up to the limits if there are any. Its failure is one of the
// client's; what the server and the connection say, rows says.
func (b *rowBuffer) collectRows(rows resultRows, limit limits) *Error {
	more := rows.Next()
	if rows.Err() != nil {
		return nil
	}
	if failure := b.prepare(rows); failure != nil {
		return failure
	}
	count := limit.counter()
	for ; more; more = rows.Next() {
		switch {
		case limit.rows > 0 && b.len() == limit.rows:
			return tooManyRows(limit.rows)
		case limit.bytes > 0 && count.over(rows):
			return tooManyBytes(limit.bytes)
		}
		if failure := b.scan(rows, b.next()); failure != nil {
			return failure
		}
	}
	return nil
}

// collectOneRow reads the only row. Its failure is one of the client's; what the server
// and the connection say, rows says.
func (b *rowBuffer) collectOneRow(rows resultRows, limit limits) *Error {
	found := rows.Next()
	if rows.Err() != nil {
		return nil
	}
	if failure := b.prepare(rows); failure != nil {
		return failure
	}
	if !found {
		return &Error{Code: CodeNotFound, Message: "no row was found", Err: pgx.ErrNoRows}
	}
	count := limit.counter()
	if limit.bytes > 0 && count.over(rows) {
		return tooManyBytes(limit.bytes)
	}
	if failure := b.scan(rows, b.place); failure != nil {
		return failure
	}
	if rows.Next() {
		return &Error{Code: CodeTooManyRows, Err: pgx.ErrTooManyRows,
			Message: "more than one row was found: narrow the condition, or add LIMIT 1 if any will do"}
	}
	return nil
}
