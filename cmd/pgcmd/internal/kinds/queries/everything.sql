-- name: InsertEverything :execrows
insert into everything (
bool, int2, int4, int8, float4, float8, "numeric", oid, xid, xid8, cid, text, "varchar", bpchar,
name, "char", citext, bytea, json, jsonb, xml, uuid, money, date, "timestamp", timestamptz, "time",
timetz, "interval", inet, cidr, macaddr, macaddr8, "bit", varbit, tid, pg_lsn, regclass, point,
line, lseg, box, path, polygon, circle, tsvector, tsquery, jsonpath, int4range, int8range, numrange,
daterange, tsrange, tstzrange, int4multirange, int8multirange, nummultirange, datemultirange,
tsmultirange, tstzmultirange, floats, mood, part, positive, address, bools, int2s, int8s,
numerics, texts, varchars, citexts, byteas, jsonbs, uuids, dates, timestamptzs, intervals, inets,
ranges, moods, parts, positives, points, matrix
) values (
$1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22,
$23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39, $40, $41, $42,
$43, $44, $45, $46, $47, $48, $49, $50, $51, $52, $53, $54, $55, $56, $57, $58, $59, $60, $61, $62,
$63, $64, $65, $66, $67, $68, $69, $70, $71, $72, $73, $74, $75, $76, $77, $78, $79, $80, $81, $82,
$83, $84, $85
);

-- name: CopyEverything :copyfrom
insert into everything (
bool, int2, int4, int8, float4, float8, "numeric", oid, xid, xid8, cid, text, "varchar", bpchar,
name, "char", citext, bytea, json, jsonb, xml, uuid, money, date, "timestamp", timestamptz, "time",
timetz, "interval", inet, cidr, macaddr, macaddr8, "bit", varbit, tid, pg_lsn, regclass, point,
line, lseg, box, path, polygon, circle, tsvector, tsquery, jsonpath, int4range, int8range, numrange,
daterange, tsrange, tstzrange, int4multirange, int8multirange, nummultirange, datemultirange,
tsmultirange, tstzmultirange, floats, mood, part, positive, address, bools, int2s, int8s,
numerics, texts, varchars, citexts, byteas, jsonbs, uuids, dates, timestamptzs, intervals, inets,
ranges, moods, parts, positives, points, matrix
) values (
$1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22,
$23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39, $40, $41, $42,
$43, $44, $45, $46, $47, $48, $49, $50, $51, $52, $53, $54, $55, $56, $57, $58, $59, $60, $61, $62,
$63, $64, $65, $66, $67, $68, $69, $70, $71, $72, $73, $74, $75, $76, $77, $78, $79, $80, $81, $82,
$83, $84, $85
);

-- name: AllEverything :many
select * from everything;

-- name: InsertRequired :exec
insert into required (
bool, int2, "numeric", bytea, jsonb, uuid, date, "time", "interval", inet, macaddr, point,
tstzrange, mood, part, citext, texts, moods, must
) values (
$1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19
);

-- name: CopyRequired :copyfrom
insert into required (
bool, int2, "numeric", bytea, jsonb, uuid, date, "time", "interval", inet, macaddr, point,
tstzrange, mood, part, citext, texts, moods, must
) values (
$1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19
);

-- name: AllRequired :many
select * from required;

-- name: InsertDomain :exec
insert into domains (must) values ($1);

-- name: CopyDomains :copyfrom
insert into domains (must) values ($1);

-- name: Domains :many
select * from domains;

-- name: NextDate :one
select "date" + 1 as next from required where "date" = $1;
