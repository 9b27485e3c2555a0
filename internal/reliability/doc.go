// Package reliability holds what is asked of pgcmd when things go wrong, as tests: every fault point of every kind of
// work, transfers under random cuts, storms of conflicts, panics everywhere, and the mistakes that all of this must
// notice. The program internal/soak is their long form.
package reliability
