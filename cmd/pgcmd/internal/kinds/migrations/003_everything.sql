-- +goose Up
create extension if not exists citext;
create type part as (number int, made date, colors text[], mood mood);
create domain positive as int check (value > 0);
create domain must as text not null;
create type floats as range (subtype = float8);

create table everything (
	bool bool, int2 int2, int4 int4, int8 int8, float4 float4, float8 float8, "numeric" numeric, oid oid, xid xid, xid8 xid8, cid cid,
	text text, "varchar" varchar(10), bpchar char(3), name name, "char" "char", citext citext,
	bytea bytea, json json, jsonb jsonb, xml xml, uuid uuid, money money,
	date date, "timestamp" timestamp, timestamptz timestamptz, "time" time, timetz timetz, "interval" interval,
	inet inet, cidr cidr, macaddr macaddr, macaddr8 macaddr8, "bit" bit(3), varbit varbit, tid tid, pg_lsn pg_lsn, regclass regclass,
	point point, line line, lseg lseg, box box, path path, polygon polygon, circle circle,
	tsvector tsvector, tsquery tsquery, jsonpath jsonpath,
	int4range int4range, int8range int8range, numrange numrange, daterange daterange, tsrange tsrange, tstzrange tstzrange,
	int4multirange int4multirange, int8multirange int8multirange, nummultirange nummultirange, datemultirange datemultirange,
	tsmultirange tsmultirange, tstzmultirange tstzmultirange, floats floats,
	mood mood, part part, positive positive, address address,
	bools bool[], int2s int2[], int8s int8[], numerics numeric[], texts text[], varchars varchar[], citexts citext[], byteas bytea[],
	jsonbs jsonb[], uuids uuid[], dates date[], timestamptzs timestamptz[], intervals interval[], inets inet[], ranges int4range[],
	moods mood[], parts part[], positives positive[], points point[], matrix float8[][]
);

create table domains (must must);
create table required (
	bool bool not null, int2 int2 not null, "numeric" numeric not null, bytea bytea not null, jsonb jsonb not null, uuid uuid not null,
	date date not null, "time" time not null, "interval" interval not null, inet inet not null, macaddr macaddr not null, point point not null,
	tstzrange tstzrange not null, mood mood not null, part part not null, citext citext not null, texts text[] not null, moods mood[] not null, must must not null
);
-- +goose Down
drop table everything;
