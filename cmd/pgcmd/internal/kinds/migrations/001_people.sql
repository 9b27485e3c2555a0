-- +goose Up
create type mood as enum ('happy', 'so-so', '');
comment on type mood is 'How somebody is.';
create type address as (street text, zip int);
create domain email as text check (value like '%@%');

create table people (
	id bigint generated always as identity primary key,
	email email not null unique,
	"fullName" text not null,
	nick text,
	mood mood not null default 'happy',
	moods mood[] not null default '{}',
	home address,
	tags text[] not null default '{}',
	grid int[][],
	balance numeric(12, 2) not null default 0,
	settings jsonb not null default '{}',
	born date,
	created_at timestamptz not null default now()
);
comment on table people is 'People who have signed up.';
comment on column people.nick is E'What friends say.\nMay be empty.';

-- +goose Down
drop table people;

-- +goose Up
create schema audit;
create table audit.entries (id uuid primary key default gen_random_uuid(), person_id bigint not null references people, note text not null, "user" text not null default current_user, at timestamptz not null default now());
-- +goose StatementBegin
create function note_count(person bigint) returns bigint language plpgsql as $$
begin
	return (select count(*) from audit.entries where person_id = person);
end;
$$;
-- +goose StatementEnd
