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
create function touch() returns trigger language plpgsql as 'begin return new; end';
create trigger touch before insert or update on posts for each row execute function touch();
create table odd (id int, "a,b" text, "-" text, tags text[] not null);
create function fill() returns trigger language plpgsql as 'begin new.tags := coalesce(new.tags, ''{}''); return new; end';
create trigger fill before insert on odd for each row execute function fill();
create domain moods as mood[];
create domain a_mood as mood;
create table mixed (moods moods, mood a_mood, list a_mood[] not null);
lock table posts;
-- +goose Down
drop table posts;
