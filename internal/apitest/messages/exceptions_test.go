package messages_test

// A message of the source that the test of this package does not cause.
type message struct{ text, cause string }

// Causes of the messages that are listed below.
const (
	lost    = "a connection that is lost at a certain message: internal/reliability enumerates them"
	shared  = "shared connections that are full or cannot be made: the tests of Multiplex"
	standby = "a standby: the tests of replicas"
	race    = "two statements at the same moment"
	reply   = "a server that does not reply, or not as PostgreSQL does: the scripted server of internal/canned"
	rights  = "a server with other rights, certificates or settings: the tests of Connect"
	trees   = "a query tree of a form that no version has: internal/analysis"
	version = "another version of PostgreSQL"
	types   = "a type of the database that pgx does not know: internal/apitest/matrix"
)

// elsewhere are messages that the public API shows after failures which one database cannot cause. They stand in the file too.
var elsewhere = []message{
	{"the connection failed", lost},
	{"the connection failed before it was sent", lost},
	{" after it was sent: it may or may not be applied", lost},
	{" after all rows were sent: they may or may not be applied", lost},
	{"COMMIT was sent, and no reply came: it may or may not be applied", lost},
	{"there was no reply to the COMMIT of a transaction that only read", lost},
	{"the server answered COMMIT with ROLLBACK: an earlier statement failed, and its error was ignored", lost},
	{"the connection failed before COMMIT was sent", lost},
	{"the connection failed in the transaction", lost},
	{"the connection was closed before COMMIT", lost},
	{"the connection was lost in the transaction", lost},
	{"the connection was lost after the body had used the transaction's Conn: what it did may be applied", lost},
	{"the body went on after the connection was lost", lost},
	{"the connection failed at the ledger of Once", lost},
	{"the caller gave up, and the server stopped the statement", race},
	{"the key exists and is not visible: its row was just deleted, or committed after this transaction's snapshot", race},
	{"; it was not tried again, since the pool's budget for retries is used up", lost},
	{"no connection available: is the pool closed?", race},
	{"the shared connections are full, %d reads wait%s", shared},
	{"; %d reads are under way on shared connections%s", shared},
	{"no shared connection could be made before the deadline", shared},
	{"the shared connections were full until the deadline: ", shared},
	{"%d reads were under way on %d shared connections, and %d others waited (raise Multiplex, or run fewer reads at a time)%s", shared},
	{"and %d other commands", shared},
	{"a replica is left out: ", standby},
	{"it was not checked yet", standby},
	{"it does not answer", standby},
	{"it is no standby any more", standby},
	{"it is too far behind", standby},
	{"the server does not answer", reply},
	{"the server did not answer what was asked", reply},
	{"the statement has another number of parameters than the SQL that was defined", reply},
	{"connecting failed: ", rights},
	{"pgx refuses the settings of replica %d (the reason is withheld, since it may hold the password)", rights},
	{"and the other fields make no address that pgx takes", rights},
	{"the server's certificate is not valid for its name, or by its date, or by its issuer: check it and sslrootcert", rights},
	{"the TLS handshake was refused: check the certificates", rights},
	{"the user may not connect to the database: GRANT CONNECT", rights},
	{"the server, or a pooler before it, does not take the connection: it may not know a setting in the URL", rights},
	{"the server is starting up, shutting down or recovering: it was waited for until the deadline", rights},
	{"the values are too large for one message, which holds 1 GiB", "values of a gigabyte"},
	{"a column has a type that pgx cannot read without a field: select it with a cast, or use a struct", types},
	{"a type that has a Scan method", types},
	{"load the type (Config.Types)", types},
	{"the connection was lost, or slow, while it loaded Config.Types", lost},
	{"cannot be loaded: %s", rights},
	{"a type for it", types},
	{"is turned into text when it is sent as", types},
	{"change the field's type, if that is not meant", types},
	{"has a value that does not fit the type of its parameter in the SQL", types},
	{"the server is a standby, which cannot make a temporary function", standby},
	{"PostgreSQL %d does not store query trees: that begins with 14", version},
	{"merge into", version},
	{"there is no old row of an INSERT", version},
	{"there is no old row where ON CONFLICT finds none", version},
	{"there is no new row of a DELETE", version},
	{"it has more than %d parameters", "a statement of more than 100 parameters"},
	{"the server does not make a temporary function of it: ", "an event trigger that refuses CREATE FUNCTION"},
	{"the server does not show its query tree", trees},
	{"its query tree is not of a form that is known", trees},
	{"its query tree has other columns than its result", trees},
	{"write to", trees},
	{"a statement that is not known", trees},
	{"the Host header names no host of this server: add it to those of Handler, if it is one", "the HTTP handler of pgcmdweb"},
}

const (
	behind   = "a cause, in Err: its message is not shown, and programs find it by errors.Is"
	sentence = "a word of the page that Catalog.WriteMarkdown writes"
	schema   = "a description in a JSON Schema"
	foreign  = "a text of pgx or of PostgreSQL that is looked for"
	isSQL    = "SQL, or a name in it"
)

// notMessages are texts of the source that no error shows, and why.
var notMessages = map[string]string{
	"pgcmd: skipped, since another item of the batch failed": behind,
	"pgcmd: the output holds itself, or is nested too deep":  behind,
	"pgcmd: planned": behind,
	"pgcmd: committed, but the synchronous standby has not got it":       "Outcome.DurabilityWarning",
	"pgcmd: no connection is idle":                                       behind,
	"pgcmd: a hook of the pool panicked":                                 behind,
	"pgcmd: timeout waiting for a connection":                            behind,
	"pgcmd: the database does not have the types ":                       behind,
	"pgcmd: load types: %v":                                              behind,
	"the setting ":                                                       behind,
	"the setting was refused":                                            behind,
	"pgcmd: the pool is closed":                                          behind,
	"pgcmd: the shared connections are closed":                           behind,
	"pgcmd: the statement cannot run on a shared connection":             behind,
	"pgcmd: AfterConnect left a transaction open":                        behind,
	"pgcmd: the connection was lost while it was set up":                 behind,
	"pgcmd: the server does not answer within its statement_timeout":     behind,
	"pgcmd: a statement began a transaction on a shared connection":      behind,
	"pgcmd: the shared connection has answered all requests":             behind,
	"pgcmd: no shared connection was available: ":                        behind,
	"pgcmd: the server's reply is malformed":                             behind,
	"malformed error":                                                    behind,
	"pgcmd: OnNotice panicked":                                           behind,
	"pgcmd: there is no row to scan":                                     behind,
	"pgcmd: Next was called by a ScanRow method, which is given one row": behind,
	"the row has %d values, and %d columns were announced":               behind,
	"the row has %d columns, and Scan was given %d targets":              behind,
	"cannot scan %s into %T":                                             behind,
	"cannot scan NULL into a string":                                     behind,
	"there is no way to encode the value as the column's type":           behind,
	"the client gave up":                                                 behind,
	"the value is out of range":                                          behind,
	"the transaction does not give its connection":                       behind,
	"- Rows: at most %d\n":                                               sentence,
	"reads only":                                                         sentence,
	"may change":                                                         sentence,
	"on its own":                                                         sentence,
	"once for each key":                                                  sentence,
	"up to %d attempts":                                                  sentence,
	"the value as JSON, within a text":                                   schema,
	"a secret, not shown":                                                schema,
	"user request":                                                       foreign,
	"closed pool":                                                        foreign,
	"server refused TLS connection":                                      foreign,
	"mismatched param and argument count":                                foreign,
	"extended protocol limited to ":                                      foreign,
	"message body too large":                                             foreign,
	"cannot use QueryExecModeCache":                                      foreign,
	"conn busy":                                                          foreign,
	"failed to encode args[":                                             foreign,
	"unable to encode ":                                                  foreign,
	"cache lookup failed for type ":                                      foreign,
	"character varying":                                                  foreign,
	"; release savepoint ":                                               isSQL,
	") from stdin (format ":                                              isSQL,
	"create function pg_temp.":                                           isSQL,
	") returns void language sql begin atomic\n":                         isSQL,
	"{RANGETBLENTRY :rtekind %d :relid %d :inh false}":                   "a query tree",
	"the node tree cannot be read at byte %d: %s":                        behind,
	"it ends where a value has to come":                                  behind,
	"it is too deep":                                                     behind,
	"a list does not end":                                                behind,
	"a value has to come":                                                behind,
	"a node has no name":                                                 behind,
	"a node does not end":                                                behind,
	"a field has to come":                                                behind,
	"a field names none of what can be chosen":                           behind,
	"\nThe SQL is made by a Go function for each input.\n":               sentence,
	"- sent if `@%s` %s set: `%s`\n":                                     sentence,
	"- chosen by %s: `%s`, or the default\n":                             sentence,
	"explain (analyze false) ":                                           isSQL,
	"set local pgcmd.marker to 'never executed'":                         isSQL,
}
