/* mdmsg: frames go in and come out as they are. */
#include "check.h"

static void a_new_message_has_no_frames (void)
{
    mdmsg_t *message = mdmsg_new ();
    size_t size = 1;
    CHECK (mdmsg_size (message) == 0);
    CHECK (mdmsg_content_size (message) == 0);
    CHECK (mdmsg_pop (message) == NULL);
    CHECK (mdmsg_popstr (message) == NULL);
    CHECK (mdmsg_unwrap (message) == NULL);
    CHECK (mdmsg_first (message, &size) == NULL && size == 0);
    CHECK (mdmsg_next (message, &size) == NULL && size == 0);
    mdmsg_destroy (&message);
    CHECK (message == NULL);
}

static void a_message_of_one_frame_is_a_copy_of_it (void)
{
    char memory[] = "before";
    mdmsg_t *message = mdmsg_new_mem (memory, 6), *empty = mdmsg_new_mem (NULL, 0);
    memcpy (memory, "after!", 6);
    CHECK (mdmsg_size (message) == 1 && mdmsg_streq (message, 0, "before") == 1);
    CHECK (mdmsg_size (empty) == 1 && mdmsg_content_size (empty) == 0);
    CHECK (mdmsg_addstr (message, "more") == 0 && mdmsg_size (message) == 2);
    CHECK (mdmsg_new_mem ("x", (size_t) -1) == NULL);
    CHECK_ERRNO (MD_EINVAL);
    mdmsg_destroy (&empty);
    mdmsg_destroy (&message);
}

static void frames_keep_their_order_and_their_bytes (void)
{
    static const char binary[] = {'\0', '\xff', 'x', '\0'};
    mdmsg_t *message = mdmsg_new ();
    const void *data = NULL;
    size_t size = 0;
    CHECK (mdmsg_addstr (message, "second") == 0);
    CHECK (mdmsg_addmem (message, binary, sizeof binary) == 0);
    CHECK (mdmsg_addmem (message, NULL, 0) == 0);
    CHECK (mdmsg_pushstr (message, "first") == 0);
    CHECK (mdmsg_pushmem (message, "zeroth and more", 6) == 0);
    CHECK (mdmsg_size (message) == 5);
    CHECK (mdmsg_content_size (message) == 6 + 5 + 6 + sizeof binary);
    CHECK (mdmsg_streq (message, 0, "zeroth") == 1);
    CHECK (mdmsg_streq (message, 0, "zerot") == 0);
    CHECK (mdmsg_streq (message, 1, "first") == 1);
    CHECK (mdmsg_frame (message, 3, &data, &size) == 0);
    CHECK (size == sizeof binary && memcmp (data, binary, size) == 0);
    CHECK (mdmsg_frame (message, 4, &data, &size) == 0);
    CHECK (size == 0 && data != NULL);
    CHECK (mdmsg_frame (message, 5, &data, &size) == -1);
    CHECK_ERRNO (MD_EINVAL);
    mdmsg_destroy (&message);
}

static void first_and_next_walk_over_all_frames (void)
{
    mdmsg_t *message = mdmsg_new ();
    size_t size = 0;
    mdmsg_addstr (message, "one");
    mdmsg_addstr (message, "");
    mdmsg_addstr (message, "three");
    CHECK (memcmp (mdmsg_first (message, &size), "one", 3) == 0 && size == 3);
    CHECK (mdmsg_next (message, &size) != NULL && size == 0);
    CHECK (memcmp (mdmsg_next (message, &size), "three", 5) == 0 && size == 5);
    CHECK (mdmsg_next (message, &size) == NULL);
    CHECK (memcmp (mdmsg_first (message, &size), "one", 3) == 0);
    mdmsg_destroy (&message);
}

static void popping_takes_frames_from_the_front (void)
{
    mdmsg_t *message = mdmsg_new ();
    mdmsg_addstr (message, "one");
    mdmsg_addstr (message, "two");
    mdmsg_t *one = mdmsg_pop (message);
    CHECK (mdmsg_size (one) == 1 && mdmsg_streq (one, 0, "one") == 1);
    char *two = mdmsg_popstr (message);
    CHECK (two && strcmp (two, "two") == 0);
    CHECK (mdmsg_size (message) == 0);
    free (two);
    mdmsg_destroy (&one);
    mdmsg_destroy (&message);
}

static void a_copy_lives_on_its_own (void)
{
    mdmsg_t *message = mdmsg_new ();
    mdmsg_addstr (message, "kept");
    mdmsg_t *copy = mdmsg_dup (message);
    CHECK (mdmsg_eq (message, copy) == 1);
    mdmsg_addstr (message, "more");
    CHECK (mdmsg_eq (message, copy) == 0);
    mdmsg_destroy (&message);
    char *text = mdmsg_strframe (copy, 0);
    CHECK (text && strcmp (text, "kept") == 0);
    CHECK (mdmsg_strframe (copy, 1) == NULL);
    CHECK_ERRNO (MD_EINVAL);
    free (text);
    CHECK (mdmsg_eq (copy, copy) == 1);
    mdmsg_destroy (&copy);
}

static void messages_are_equal_however_they_came_to_their_frames (void)
{
    mdmsg_t *made = mdmsg_new (), *left = mdmsg_new ();
    mdmsg_addstr (made, "last");
    mdmsg_addstr (left, "first");
    mdmsg_addstr (left, "last");
    mdmsg_t *popped = mdmsg_pop (left);
    CHECK (mdmsg_eq (made, left) == 1);
    CHECK (mdmsg_eq (left, made) == 1);
    CHECK (mdmsg_eq (popped, left) == 0);
    mdmsg_destroy (&popped);
    popped = mdmsg_pop (left);
    mdmsg_t *empty = mdmsg_new ();
    CHECK (mdmsg_eq (left, empty) == 1);
    mdmsg_destroy (&empty);
    mdmsg_destroy (&popped);
    mdmsg_destroy (&left);
    mdmsg_destroy (&made);
}

static void messages_are_joined_at_either_end_and_then_gone (void)
{
    mdmsg_t *message = mdmsg_new (), *before = mdmsg_new (), *after = mdmsg_new ();
    mdmsg_addstr (message, "middle");
    mdmsg_addstr (before, "a");
    mdmsg_addstr (before, "b");
    mdmsg_addstr (after, "z");
    CHECK (mdmsg_prepend (message, &before) == 0 && before == NULL);
    CHECK (mdmsg_append (message, &after) == 0 && after == NULL);
    CHECK (mdmsg_size (message) == 4);
    CHECK (mdmsg_streq (message, 0, "a") == 1);
    CHECK (mdmsg_streq (message, 1, "b") == 1);
    CHECK (mdmsg_streq (message, 3, "z") == 1);
    mdmsg_t *same = message;
    CHECK (mdmsg_append (message, &same) == -1 && same == message);
    CHECK_ERRNO (MD_EINVAL);
    CHECK (mdmsg_size (message) == 4);
    mdmsg_destroy (&message);
}

static void an_envelope_goes_on_and_off (void)
{
    mdmsg_t *message = mdmsg_new (), *address = mdmsg_new ();
    mdmsg_addstr (message, "body");
    mdmsg_addstr (address, "client");
    CHECK (mdmsg_wrap (message, &address) == 0 && address == NULL);
    CHECK (mdmsg_size (message) == 3);
    CHECK (mdmsg_streq (message, 1, "") == 1);
    address = mdmsg_unwrap (message);
    CHECK (mdmsg_streq (address, 0, "client") == 1);
    CHECK (mdmsg_size (message) == 1 && mdmsg_streq (message, 0, "body") == 1);
    mdmsg_destroy (&address);
    address = mdmsg_unwrap (message);
    CHECK (mdmsg_streq (address, 0, "body") == 1 && mdmsg_size (message) == 0);
    mdmsg_destroy (&address);
    mdmsg_destroy (&message);
}

static void a_frame_with_a_nul_inside_is_whole_but_for_those_who_read_a_string (void)
{
    mdmsg_t *message = mdmsg_new ();
    mdmsg_addmem (message, "ab\0cd", 5);
    CHECK (mdmsg_content_size (message) == 5);
    CHECK (mdmsg_streq (message, 0, "ab") == 0);
    char *text = mdmsg_popstr (message);
    CHECK (text && memcmp (text, "ab\0cd", 6) == 0);
    free (text);
    mdmsg_destroy (&message);
}

static void an_impossible_size_is_an_error (void)
{
    mdmsg_t *message = mdmsg_new ();
    CHECK (mdmsg_addmem (message, "x", (size_t) -1) == -1);
    CHECK_ERRNO (MD_EINVAL);
    CHECK (mdmsg_addmem (message, NULL, 1) == -1);
    CHECK_ERRNO (MD_EINVAL);
    CHECK (mdmsg_size (message) == 0);
    mdmsg_destroy (&message);
}

static void a_message_can_be_printed (void)
{
    mdmsg_t *message = mdmsg_new ();
    mdmsg_addstr (message, "printed by a test");
    mdmsg_addmem (message, "\0\1\2", 3);
    mdmsg_dump (message);
    mdmsg_print (message);
    mdmsg_destroy (&message);
}

int main (void)
{
    RUN (a_new_message_has_no_frames);
    RUN (a_message_of_one_frame_is_a_copy_of_it);
    RUN (frames_keep_their_order_and_their_bytes);
    RUN (first_and_next_walk_over_all_frames);
    RUN (popping_takes_frames_from_the_front);
    RUN (a_copy_lives_on_its_own);
    RUN (messages_are_equal_however_they_came_to_their_frames);
    RUN (messages_are_joined_at_either_end_and_then_gone);
    RUN (an_envelope_goes_on_and_off);
    RUN (a_frame_with_a_nul_inside_is_whole_but_for_those_who_read_a_string);
    RUN (an_impossible_size_is_an_error);
    RUN (a_message_can_be_printed);
    return check_report ();
}
