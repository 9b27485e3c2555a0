package rowscan

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// Rows are the rows of a reply; [pgx.Rows] implement it. They have neither
// Scan nor Values: an error of these ends the reading of pgx's rows, which keep it and
// drop what the server says later, and whether a statement ended well is the server's
// word alone. So what scans gets a Row, and Err is the server's or the
// connection's.
type Rows interface {
	Next() bool
	Close()
	Err() error
	CommandTag() pgconn.CommandTag
	FieldDescriptions() []pgconn.FieldDescription
	RawValues() [][]byte
	TypeMap() *pgtype.Map
	Conn() *pgx.Conn
}

// A Row is the row that was read last, as the [pgx.Rows] that code which scans a
// row expects. An error of it leaves the rows that it is one of as they are, and so does
// Close; Next is an error. The interface is embedded since it grows.
type Row struct {
	pgx.Rows
	rows    Rows  // nil: there is no row
	err     error // the first, as with pgx's
	types   *pgtype.Map
	plans   []pgtype.ScanPlan // of the last Scan
	targets []reflect.Type    // that it was given
}

var (
	errNoRow     = errors.New("pgcmd: there is no row to scan")
	errNextInRow = errors.New("pgcmd: Next was called by a ScanRow method, which is given one row")
)

// RowOf returns the current row of rows.
func RowOf(rows Rows) Row { return Row{rows: rows} }

// SetRows sets whose current row it is; nil is none.
func (r *Row) SetRows(rows Rows) { r.rows = rows }

// replan forgets the plans: the columns may be others.
func (r *Row) replan() { r.plans = r.plans[:0] }

func (r *Row) Close() {}

func (r *Row) Err() error { return r.err }

func (r *Row) CommandTag() pgconn.CommandTag { return pgconn.CommandTag{} }

func (r *Row) Next() bool {
	if r.err == nil {
		r.err = errNextInRow
	}
	return false
}

func (r *Row) FieldDescriptions() []pgconn.FieldDescription {
	if r.rows == nil {
		return nil
	}
	return r.rows.FieldDescriptions()
}

func (r *Row) RawValues() [][]byte {
	if r.rows == nil {
		return nil
	}
	return r.rows.RawValues()
}

func (r *Row) TypeMap() *pgtype.Map {
	if r.rows == nil {
		return nil
	}
	return r.rows.TypeMap()
}

func (r *Row) Conn() *pgx.Conn {
	if r.rows == nil {
		return nil
	}
	return r.rows.Conn()
}

// Scan does what pgx's does.
func (r *Row) Scan(targets ...any) error {
	if r.rows == nil {
		return errNoRow
	}
	if r.err == nil {
		if err := r.scan(targets); r.err == nil {
			r.err = err
		}
	}
	return r.err
}

func (r *Row) scan(targets []any) error {
	if len(targets) == 1 {
		if row, ok := targets[0].(pgx.RowScanner); ok {
			return row.ScanRow(r)
		}
	}
	columns, values := r.rows.FieldDescriptions(), r.rows.RawValues()
	switch {
	case len(columns) != len(values):
		return fmt.Errorf("the row has %d values, and %d columns were announced", len(values), len(columns))
	case len(columns) != len(targets):
		return fmt.Errorf("the row has %d columns, and Scan was given %d targets", len(columns), len(targets))
	}
	types := r.rows.TypeMap()
	if len(r.plans) != len(targets) || r.types != types {
		r.types, r.plans, r.targets = types, make([]pgtype.ScanPlan, len(targets)), make([]reflect.Type, len(targets))
	}
	for i, target := range targets {
		if target == nil {
			continue
		}
		if typ := reflect.TypeOf(target); r.targets[i] != typ {
			r.targets[i], r.plans[i] = typ, types.PlanScan(columns[i].DataTypeOID, columns[i].Format, target)
		}
		if values[i] == nil && reflect.TypeOf(r.plans[i]) == NoScan() { // pgx would try other types, in random order
			return pgx.ScanArgError{ColumnIndex: i, FieldName: columns[i].Name,
				Err: fmt.Errorf("cannot scan %s into %T", sqlTypeName(types, columns[i].DataTypeOID), target)}
		}
		if err := r.plans[i].Scan(values[i], target); err != nil {
			return pgx.ScanArgError{ColumnIndex: i, FieldName: columns[i].Name, Err: err}
		}
	}
	return nil
}

// Values does what pgx's does.
func (r *Row) Values() ([]any, error) {
	if r.rows == nil {
		return nil, errNoRow
	}
	if r.err != nil {
		return nil, r.err
	}
	columns, raw, types := r.rows.FieldDescriptions(), r.rows.RawValues(), r.rows.TypeMap()
	values := make([]any, len(raw))
	for i, b := range raw {
		if b == nil {
			continue
		}
		c := &columns[i]
		t, known := types.TypeForOID(c.DataTypeOID)
		switch {
		case known:
			v, err := t.Codec.DecodeValue(types, c.DataTypeOID, c.Format, b)
			if err != nil {
				r.err = fmt.Errorf("column %d: %w", i, err)
				return nil, r.err
			}
			values[i] = v
		case c.Format == pgtype.TextFormatCode:
			values[i] = string(b)
		default:
			values[i] = append([]byte{}, b...)
		}
	}
	return values, nil
}
