-- +goose NO TRANSACTION
-- +goose Up
create table posts (
	id bigint generated always as identity primary key,
	person_id bigint not null references people,
	title text not null,
	body text,
	created_at timestamptz not null default now()
);
create index concurrently posts_person_id_idx on posts (person_id);
create view popular as select p.id, p.title, count(*) as posts from posts p group by p.id;
lock table posts;
-- +goose Down
drop table posts;
