package pgrows

import (
	"context"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Query returns the rows of a query, NULL as "". The arguments are arrays of text. It leaves no
// statement prepared.
func Query(ctx context.Context, conn *pgx.Conn, sql string, args ...[]string) ([][]string, error) {
	values := make([][]byte, len(args))
	for i, arg := range args {
		values[i] = textArray(arg)
	}
	result := conn.PgConn().ExecParams(ctx, sql, values, nil, nil, nil).Read()
	if result.Err != nil {
		return nil, result.Err
	}
	out := make([][]string, len(result.Rows))
	for i, row := range result.Rows {
		for _, value := range row {
			out[i] = append(out[i], string(value))
		}
	}
	return out, nil
}

// ParseOID parses an OID in a row of Query; 0 if there is none, as for NULL.
func ParseOID(text string) uint32 {
	oid, _ := strconv.ParseUint(text, 10, 32)
	return uint32(oid)
}

func textArray(values []string) []byte {
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	quoted := make([]string, len(values))
	for i, value := range values {
		quoted[i] = `"` + quote.Replace(value) + `"`
	}
	return []byte("{" + strings.Join(quoted, ",") + "}")
}
