-- name: FindUser :one
select id, email, name, active, created_at from bench_users where id = $1;

-- name: ListUsers :many
select id, email, name, active, created_at from bench_users where id <= $1;

-- name: SearchUser :one
select id, email, name, active, created_at from bench_users where email = $1 and name = $2 and active = $3 and id >= $4;

-- name: ListBranches :many
select b.bid, count(distinct t.tid) as tellers, count(distinct a.aid) as accounts, sum(a.abalance)::bigint as total, avg(a.abalance)::float8 as average, (sum(a.abalance) * 1.0::float8 / nullif(sum(sum(a.abalance)) over (), 0))::float8 as share from pgbench_branches b join pgbench_accounts a on a.bid = b.bid join pgbench_tellers t on t.bid = b.bid where a.aid between sqlc.arg(from_account)::int and sqlc.arg(to_account)::int and a.abalance >= sqlc.arg(min_balance)::int group by b.bid having count(distinct a.aid) >= sqlc.arg(min_accounts)::bigint order by total desc, b.bid limit sqlc.arg(top)::bigint;

-- name: Debit :exec
update pgbench_accounts set abalance = abalance - sqlc.arg(amount)::int where aid = sqlc.arg(account);

-- name: Credit :exec
update pgbench_tellers set tbalance = tbalance + sqlc.arg(amount)::int where tid = sqlc.arg(teller);

-- name: Note :exec
insert into pgbench_history (tid, bid, aid, delta, mtime) values (sqlc.arg(teller)::int, sqlc.arg(branch)::int, sqlc.arg(account)::int, sqlc.arg(amount)::int, current_timestamp);

-- name: AddUser :exec
insert into bench_users (id, email, name, active, created_at) values ($1, $2, $3, $4, $5);

-- name: ImportItems :batchexec
insert into bench_items (id, name, qty) values ($1, $2, $3);
