package main

// tables are those that pgbench -i --foreign-keys makes, with two branches of 100
// accounts, and one rule of this bank's.
const tables = `
	create table pgbench_branches (bid int not null primary key, bbalance int, filler char(88));
	create table pgbench_tellers (tid int not null primary key, bid int references pgbench_branches, tbalance int, filler char(84));
	create table pgbench_accounts (aid int not null primary key, bid int references pgbench_branches, abalance int, filler char(84));
	create table pgbench_history (
		tid int references pgbench_tellers, bid int references pgbench_branches, aid int references pgbench_accounts,
		delta int, mtime timestamp, filler char(22));
	insert into pgbench_branches select n, 0, '' from generate_series(1, 2) n;
	insert into pgbench_tellers select n, (n - 1) / 10 + 1, 0, '' from generate_series(1, 20) n;
	insert into pgbench_accounts select n, (n - 1) / 100 + 1, 1000, '' from generate_series(1, 200) n;
	alter table pgbench_accounts alter bid set not null, alter abalance set not null,
		add constraint pgbench_accounts_funds check (abalance >= 0);
	alter table pgbench_history alter aid set not null, alter delta set not null, alter mtime set not null;
	comment on table pgbench_accounts is 'accounts of customers';
	comment on column pgbench_accounts.abalance is 'in cents; never below zero';
	comment on table pgbench_history is 'bookings, in UTC'`

// rights are those of the role that serves models: there is nothing that it may delete.
const rights = `
	create role bank_mcp login;
	grant select on pgbench_branches, pgbench_tellers, pgbench_accounts, pgbench_history to bank_mcp;
	grant insert (aid, bid, abalance, filler), update (abalance) on pgbench_accounts to bank_mcp;
	grant insert (tid, bid, aid, delta, mtime) on pgbench_history to bank_mcp;
	grant usage on schema pgcmd to bank_mcp;
	grant select, insert, update on pgcmd.once to bank_mcp`
