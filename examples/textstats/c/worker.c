/* Text statistics as a service.  Usage: worker ENDPOINT SERVICE */
#include <majordomo.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct {
    size_t start, size; /* Where the word is in the folded text. */
    unsigned long count;
} word_t;

/* A table with open addressing; `room` is a power of two, and a free place has the count 0. */
typedef struct {
    const unsigned char *text;
    word_t *places;
    size_t room, used;
} table_t;

static void *need (void *memory)
{
    if (!memory) {
        fprintf (stderr, "worker: out of memory\n");
        abort ();
    }
    return memory;
}

static int in_word (unsigned char byte)
{
    return (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'z') || byte >= 0x80;
}

/* FNV-1a. */
static size_t hash (const unsigned char *bytes, size_t size)
{
    uint64_t value = 14695981039346656037u;
    for (size_t i = 0; i < size; i++)
        value = (value ^ bytes[i]) * 1099511628211u;
    return (size_t) (value ^ value >> 32);
}

static word_t *find (table_t *table, size_t start, size_t size)
{
    size_t place = hash (table->text + start, size) & (table->room - 1);
    for (;; place = (place + 1) & (table->room - 1)) {
        word_t *word = &table->places[place];
        if (word->count == 0)
            return word;
        if (word->size == size && memcmp (table->text + word->start, table->text + start, size) == 0)
            return word;
    }
}

static void grow (table_t *table)
{
    table_t larger = *table;
    larger.room = table->room ? table->room * 2 : 1024;
    larger.places = (word_t *) need (calloc (larger.room, sizeof *larger.places));
    for (size_t i = 0; i < table->room; i++)
        if (table->places[i].count > 0)
            *find (&larger, table->places[i].start, table->places[i].size) = table->places[i];
    free (table->places);
    *table = larger;
}

static void count (table_t *table, size_t start, size_t size)
{
    if (table->used * 2 >= table->room)
        grow (table);
    word_t *word = find (table, start, size);
    if (word->count == 0) {
        word->start = start;
        word->size = size;
        table->used++;
    }
    word->count++;
}

/* Whether `left` stands before `right` in the answer. */
static int before (const table_t *table, const word_t *left, const word_t *right)
{
    if (left->count != right->count)
        return left->count > right->count;
    size_t shorter = left->size < right->size ? left->size : right->size;
    int order = memcmp (table->text + left->start, table->text + right->start, shorter);
    return order != 0 ? order < 0 : left->size < right->size;
}

enum { TOP = 10 };

static size_t top_words (const table_t *table, word_t *top)
{
    size_t found = 0;
    for (size_t i = 0; i < table->room; i++) {
        const word_t *word = &table->places[i];
        if (word->count == 0)
            continue;
        size_t place = found < TOP ? found++ : TOP;
        if (place == TOP && !before (table, word, &top[--place]))
            continue;
        for (; place > 0 && before (table, word, &top[place - 1]); place--)
            top[place] = top[place - 1];
        top[place] = *word;
    }
    return found;
}

/* The answer as a string for the caller to free. */
static char *statistics (unsigned char *text, size_t size)
{
    table_t table = {text, NULL, 0, 0};
    unsigned long lines = size > 0 && text[size - 1] != '\n', words = 0, characters = 0;
    size_t start = 0;
    for (size_t i = 0; i <= size; i++) {
        if (i < size) {
            lines += text[i] == '\n';
            characters += text[i] < 0x80 || text[i] > 0xBF;
            if (text[i] >= 'A' && text[i] <= 'Z')
                text[i] = (unsigned char) (text[i] + 32);
            if (in_word (text[i]))
                continue;
        }
        if (i > start) {
            words++;
            count (&table, start, i - start);
        }
        start = i + 1;
    }

    word_t top[TOP];
    size_t found = top_words (&table, top), room = 160;
    for (size_t i = 0; i < found; i++)
        room += 6 * top[i].size + 32;
    char *json = (char *) need (malloc (room)), *next = json;
    next += sprintf (next, "{\"lines\":%lu,\"words\":%lu,\"characters\":%lu,\"top\":[", lines, words, characters);
    for (size_t i = 0; i < found; i++) {
        next += sprintf (next, "%s[\"", i > 0 ? "," : "");
        for (size_t at = 0; at < top[i].size; at++) {
            unsigned char byte = text[top[i].start + at];
            next += sprintf (next, byte < 0x80 ? "%c" : "\\u%04x", byte);
        }
        next += sprintf (next, "\",%lu]", top[i].count);
    }
    strcpy (next, "]}");
    free (table.places);
    return json;
}

/* Turns a request into its reply. */
static void answer (mdmsg_t **body_p)
{
    size_t size = 0, total = mdmsg_content_size (*body_p);
    unsigned char *text = (unsigned char *) need (malloc (total + 1)), *next = text;
    for (const void *frame = mdmsg_first (*body_p, &size); frame; frame = mdmsg_next (*body_p, &size)) {
        memcpy (next, frame, size);
        next += size;
    }
    mdmsg_destroy (body_p);
    char *json = statistics (text, total);
    *body_p = mdmsg_new ();
    mdmsg_addstr (*body_p, json);
    free (json);
    free (text);
}

static sigset_t ends;

/* Ends the worker gently on SIGTERM or SIGINT. */
static void *wait_for_the_end (void *worker)
{
    int signal = 0;
    sigwait (&ends, &signal);
    mdwrk_drain ((mdwrk_t *) worker);
    return NULL;
}

int main (int argc, char *argv[])
{
    if (argc != 3) {
        fprintf (stderr, "usage: worker ENDPOINT SERVICE\n");
        return 2;
    }
    /* Before any thread is made, so that all of them leave these signals to the one that waits for them. */
    sigemptyset (&ends);
    sigaddset (&ends, SIGTERM);
    sigaddset (&ends, SIGINT);
    pthread_sigmask (SIG_BLOCK, &ends, NULL);
    mdwrk_t *worker = mdwrk_new (argv[1], argv[2], 0);
    pthread_t end;
    if (!worker || pthread_create (&end, NULL, wait_for_the_end, worker) != 0) {
        fprintf (stderr, "worker: %s\n", md_errtext ());
        return 1;
    }
    puts ("ready");
    fflush (stdout);
    mdmsg_t *body = NULL;
    while ((body = mdwrk_recv (worker, &body)) != NULL)
        answer (&body);
    int drained = mdwrk_errno (worker) == MD_ECLOSED;
    if (!drained) {
        fprintf (stderr, "worker: %s\n", md_errtext ());
        /* Nobody has asked for the end that the thread waits for. */
        kill (getpid (), SIGTERM);
    }
    pthread_join (end, NULL);
    mdwrk_destroy (&worker);
    return drained ? 0 : 1;
}
