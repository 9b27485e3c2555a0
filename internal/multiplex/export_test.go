package multiplex

import "time"

// Age makes a prepared statement older, as if its arguments took so long to encode.
func (m *Mux) Age(sql string, by time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for c := range m.allConns() {
		if stmt, ok := c.statements.Get(sql); ok {
			stmt.preparedAt = stmt.preparedAt.Add(-by)
		}
	}
}
