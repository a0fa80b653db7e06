/*-------------------------------------------------------------------------
 *
 * hands.c
 *		One table that is copied, merged by several processes.
 *
 * To send a row takes a fifth of the time that it takes to merge it.  So a large
 * table is read over one connection, under one snapshot, by one process (its
 * copier), and what it has no time for it gives to those that have nothing to copy.
 * It lays a frame into a free slot of theirs, or merges it itself if none is free;
 * so nobody ever waits for a slot, and whoever is fast gets more.
 *
 * Frames may go to anyone, in any order, since each describes its relations and
 * begins with its horizon (delta/frames.c), and merging commutes.  The exceptions
 * stay with the copier: what is told of a table before its rows, which it commits
 * before it gives anything away, and what the sender holds, which is true only when
 * all is merged.  Frames are dealt one by one, not by ranges of keys: rows that lie
 * side by side at the sender should do so here, in the heap and in its index.
 *
 * The slots are in a dynamic shared memory segment that lives as long as the table
 * takes.  Two things end the work of who helps: the copier says that there is no
 * more, or it is gone; in both cases what was taken is committed, which is never
 * wrong, since merging is idempotent.  If one that helps fails, the copier raises
 * what that one raised, and the table is begun anew, as after any interruption.
 *
 * The copier waits for the others only when it has nothing open, so that they
 * never wait for its locks while it waits for them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/dsm.h"
#include "storage/latch.h"
#include "utils/timestamp.h"

#include "apply/apply.h"
#include "core/wire.h"
#include "delta/delta.h"
#include "link/hands.h"
#include "node/node.h"

/* smaller ones are done before anybody has begun to help */
#define WORTH_BYTES (8 * 1024 * 1024)

#define SLOTS 4
#define SLOT_BYTES (2 * DELTA_FRAME_BYTES)	/* a frame ends with the row that fills it */
#define LOOK_EVERY_MS 10

typedef enum PlaceState
{
	PLACE_FREE,
	PLACE_TAKEN,
	PLACE_DONE,					/* all is committed */
	PLACE_FAILED
} PlaceState;

/* of one process that helps; slot i % SLOTS is full for taken <= i < put */
typedef struct Place
{
	PlaceState	state;
	Latch	   *latch;			/* stays valid, whoever has it then */
	uint64		put;			/* by the copier */
	uint64		taken;			/* merged, too */
	uint64		rows;
	uint32		len[SLOTS];
	char		slots[SLOTS][SLOT_BYTES];
} Place;

typedef struct HandsShared
{
	slock_t		mutex;			/* of all but the slots' bytes */
	bool		is_over;		/* nothing more will come */
	Latch	   *copier;
	int			nplaces;
	Place		places[FLEXIBLE_ARRAY_MEMBER];
} HandsShared;

struct Hands
{
	LinkShared *link;
	LinkCopier *copier;
	dsm_segment *segment;
	HandsShared *shared;
};

bool
hands_are_worth(const DueTable *t)
{
	return ferry_copy_workers > 1 && t->bytes_there >= WORTH_BYTES;
}

/* --- who copies --- */

/* the copier has no more, or is gone */
static void
end_work(dsm_segment *segment, Datum arg)
{
	HandsShared *shared = (HandsShared *) DatumGetPointer(arg);

	SpinLockAcquire(&shared->mutex);
	shared->is_over = true;
	SpinLockRelease(&shared->mutex);
	for (int i = 0; i < shared->nplaces; i++)
		if (shared->places[i].latch)
			SetLatch(shared->places[i].latch);
}

Hands *
hands_offer(LinkShared *link, LinkCopier *copier, const DueTable *t)
{
	int			nplaces = Min(ferry_copy_workers, LINK_MAX_COPIERS) - 1;
	dsm_segment *segment = NULL;
	Hands	   *h = NULL;

	if (hands_are_worth(t))
		segment = dsm_create(offsetof(HandsShared, places) + sizeof(Place) * nplaces, DSM_CREATE_NULL_IF_MAXSEGMENTS);
	if (segment)
	{
		dsm_pin_mapping(segment);
		h = palloc(sizeof(Hands));
		h->link = link;
		h->copier = copier;
		h->segment = segment;
		h->shared = dsm_segment_address(segment);
		memset(h->shared, 0, offsetof(HandsShared, places));
		SpinLockInit(&h->shared->mutex);
		h->shared->copier = MyLatch;
		h->shared->nplaces = nplaces;
		for (int i = 0; i < nplaces; i++)
			memset(&h->shared->places[i], 0, offsetof(Place, slots));
		on_dsm_detach(segment, end_work, PointerGetDatum(h->shared));
	}
	SpinLockAcquire(&link->mutex);
	copier->hands = segment ? dsm_segment_handle(segment) : DSM_HANDLE_INVALID;
	copier->hands_asked = true;
	SpinLockRelease(&link->mutex);
	return h;
}

void
hands_withdraw(LinkCopier *copier)
{
	copier->hands = DSM_HANDLE_INVALID;
	copier->hands_asked = false;
}

/* one that helps has failed: what it said is with the link, unless it was ended */
static void
raise_failure(Hands *h)
{
	char		error[LINK_ERROR_BYTES];
	int			sqlerrcode;

	SpinLockAcquire(&h->link->mutex);
	sqlerrcode = h->link->copy_sqlerrcode;
	memcpy(error, h->link->copy_error, sizeof(error));
	SpinLockRelease(&h->link->mutex);
	if (sqlerrcode == 0)
		ereport(ERROR,
				(errcode(ERRCODE_ADMIN_SHUTDOWN),
				 errmsg("a process that helped to copy from peer \"%s\" was ended", h->link->peer)));
	ereport(ERROR, (errcode(sqlerrcode), errmsg_internal("%s", error)));
}

bool
hands_take(Hands *h, const void *frame, size_t len)
{
	const uint8_t type = len > 0 ? *(const uint8_t *) frame : 0;

	if ((type != WIRE_RELATION && type != WIRE_HORIZON) || len > SLOT_BYTES)
		return false;
	for (int i = 0; i < h->shared->nplaces; i++)
	{
		Place	   *p = &h->shared->places[i];
		PlaceState	state;
		uint64		put;
		bool		has_room;

		SpinLockAcquire(&h->shared->mutex);
		state = p->state;
		put = p->put;
		has_room = put - p->taken < SLOTS;
		SpinLockRelease(&h->shared->mutex);
		if (state == PLACE_FAILED)
			raise_failure(h);
		if (state != PLACE_TAKEN || !has_room)
			continue;
		memcpy(p->slots[put % SLOTS], frame, len);
		SpinLockAcquire(&h->shared->mutex);
		p->len[put % SLOTS] = (uint32) len;
		p->put++;
		SpinLockRelease(&h->shared->mutex);
		SetLatch(p->latch);
		return true;
	}
	return false;
}

uint64
hands_rows(Hands *h)
{
	uint64		rows = 0;

	SpinLockAcquire(&h->shared->mutex);
	for (int i = 0; i < h->shared->nplaces; i++)
		rows += h->shared->places[i].rows;
	SpinLockRelease(&h->shared->mutex);
	return rows;
}

uint64
hands_finish(Hands *h)
{
	uint64		rows;

	Assert(!IsTransactionState());
	SpinLockAcquire(&h->link->mutex);
	hands_withdraw(h->copier);
	SpinLockRelease(&h->link->mutex);
	end_work(h->segment, PointerGetDatum(h->shared));
	for (int i = 0; i < h->shared->nplaces; i++)
	{
		Place	   *p = &h->shared->places[i];
		PlaceState	state;

		for (;;)
		{
			SpinLockAcquire(&h->shared->mutex);
			state = p->state;
			SpinLockRelease(&h->shared->mutex);
			if (state != PLACE_TAKEN)
				break;
			(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 1000, PG_WAIT_EXTENSION);
			ResetLatch(MyLatch);
			CHECK_FOR_INTERRUPTS();
		}
		if (state == PLACE_FAILED)
			raise_failure(h);
	}
	rows = hands_rows(h);
	dsm_detach(h->segment);
	pfree(h);
	return rows;
}

/* --- who helps --- */

/* the place is left: what was taken is committed, or this process failed */
static void
leave_place(dsm_segment *segment, Datum arg)
{
	HandsShared *shared = dsm_segment_address(segment);
	Place	   *p = (Place *) DatumGetPointer(arg);

	SpinLockAcquire(&shared->mutex);
	if (p->state == PLACE_TAKEN)
		p->state = PLACE_FAILED;
	SpinLockRelease(&shared->mutex);
	SetLatch(shared->copier);
}

static Place *
take_place(HandsShared *shared)
{
	Place	   *place = NULL;

	SpinLockAcquire(&shared->mutex);
	for (int i = 0; i < shared->nplaces && place == NULL && !shared->is_over; i++)
	{
		if (shared->places[i].state != PLACE_FREE)
			continue;
		place = &shared->places[i];
		place->state = PLACE_TAKEN;
		place->latch = MyLatch;
	}
	SpinLockRelease(&shared->mutex);
	return place;
}

/* merge what is laid into the place's slots until nothing more will come */
static void
work(HandsShared *shared, Place *p, ApplyStream *s)
{
	TimestampTz commit_due = 0;

	for (;;)
	{
		TimestampTz now;
		uint64		taken;
		bool		is_over;
		bool		has_more;

		CHECK_FOR_INTERRUPTS();
		ResetLatch(MyLatch);
		SpinLockAcquire(&shared->mutex);
		is_over = shared->is_over;
		taken = p->taken;
		has_more = p->put > taken;
		SpinLockRelease(&shared->mutex);
		if (has_more)
		{
			apply_stream_frame(s, p->slots[taken % SLOTS], p->len[taken % SLOTS]);
			SpinLockAcquire(&shared->mutex);
			p->taken++;
			p->rows = apply_stream_progress(s)->rows;
			SpinLockRelease(&shared->mutex);
		}
		now = GetCurrentTimestamp();
		if (now >= commit_due || (is_over && !has_more))
		{
			(void) apply_stream_commit(s);
			commit_due = TimestampTzPlusMilliseconds(now, ferry_batch_ms);
		}
		if (has_more)
			continue;
		if (is_over)
			return;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, Max(ferry_batch_ms, 1), PG_WAIT_EXTENSION);
	}
}

/* take a place at the table that is offered; false if there is none */
static bool
help(dsm_handle handle, LinkShared *link, NodeId peer_id, const CopyManner *manner)
{
	dsm_segment *segment = dsm_attach(handle);
	ApplyStream *s;
	HandsShared *shared;
	Place	   *p;

	if (segment == NULL)
		return false;
	dsm_pin_mapping(segment);
	shared = dsm_segment_address(segment);
	p = take_place(shared);
	if (p)
	{
		on_dsm_detach(segment, leave_place, PointerGetDatum(p));
		s = apply_stream_create(link->peer, peer_id, manner->careful);
		work(shared, p, s);
		apply_stream_free(s);
		SpinLockAcquire(&shared->mutex);
		p->state = PLACE_DONE;
		SpinLockRelease(&shared->mutex);
	}
	dsm_detach(segment);		/* leave_place tells the copier */
	return p != NULL;
}

bool
hands_lend(LinkShared *link, const LinkCopier *self, NodeId peer_id, const CopyManner *manner)
{
	for (;;)
	{
		dsm_handle	offered[LINK_MAX_COPIERS];
		int			noffered = 0;
		bool		others = false;

		SpinLockAcquire(&link->mutex);
		for (int i = 0; i < LINK_MAX_COPIERS; i++)
		{
			const LinkCopier *c = &link->copiers[i];

			if (c == self || !OidIsValid(c->relid))
				continue;
			others |= !c->hands_asked;
			if (c->hands != DSM_HANDLE_INVALID)
				offered[noffered++] = c->hands;
		}
		SpinLockRelease(&link->mutex);
		for (int i = 0; i < noffered; i++)
			if (help(offered[i], link, peer_id, manner))
				return true;
		if (!others)
			return false;

		/* somebody has just begun, and is about to say whether help is welcome */
		CHECK_FOR_INTERRUPTS();
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, LOOK_EVERY_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}
