-- name: CreatePost :batchone
insert into posts (person_id, title, body) values (@person_id, @title, @body) returning id;

-- name: RetitlePost :batchexec
update posts set title = @title where id = @id;

-- name: PostsOfPerson :batchmany
select * from posts where person_id = $1 order by id;

-- name: GetPostWithPerson :one
select sqlc.embed(posts), people.email from posts join people on people.id = posts.person_id where posts.id = $1;

-- name: ListPostsWithPeople :many
select sqlc.embed(p), sqlc.embed(people), lower(p.title), 1 + 1
from posts p join people on people.id = p.person_id order by p.id;

-- name: JoinAll :many
select * from posts join audit.entries e on e.person_id = posts.person_id;

-- name: LeftJoin :many
select people.id, posts.title, posts.id, count(*) over () from people left join posts on posts.person_id = people.id;

-- name: Popular :many
select * from popular where posts > $1;

-- name: AnyPopular :many
select * from popular;

-- name: Note :exec
insert into audit.entries (person_id, note) select @person_id, @note::text where @note <> '';

-- name: Entries :many
select * from audit.entries where at > @since and note_count(person_id) >= @least;

-- name: TitlesAndNotes :many
select title as text from posts union all select note from audit.entries;

-- name: Backtick :many
select '`' as tick, 'two
lines' as text, 3 as "Three-and" where @type::text <> 'x';

-- name: Odd :many
select * from odd;

-- name: InsertOdd :exec
insert into odd (id, tags) values (@id, @tags);

-- name: FillOdd :exec
insert into odd (tags) values (sqlc.narg(tags));

-- name: ChangeMixed :many
insert into mixed (moods, mood, list) values ($1, $2, $3) returning *;

-- name: InsertMixed :exec
insert into mixed values ($1, $2, $3);

-- name: RetagOdd :exec
update odd set (tags, "a,b") = ($1, $2) where id = $3;
