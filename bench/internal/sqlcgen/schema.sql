-- The tables of workload.DDL, as sqlc has to know them.
create table bench_users (id bigint primary key, email text not null, name text not null, active bool not null, created_at timestamptz not null);
create table bench_items (id bigint not null, name text not null, qty bigint not null);
create table pgbench_branches (bid int primary key, bbalance int, filler char(88));
create table pgbench_tellers (tid int primary key, bid int, tbalance int, filler char(84));
create table pgbench_accounts (aid int primary key, bid int, abalance int, filler char(84));
create table pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));
