// Package reliability holds what is asked of pgcmd when things go wrong, as tests: every row of the table of errors, a
// fault at every message of every kind of work, transfers under random cuts, and trouble at every stage of a run. It has
// a short form, and a long one under PGCMD_FAULTS=all. TestSoak is the longest.
package reliability
