/* What no program may do. It is done to see that a sanitizer sees it, inside the library. */
#include <majordomo.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static mdmsg_t *shared;

static void *destroy_shared (void *unused)
{
    mdmsg_destroy (&shared);
    return unused;
}

/* Two threads destroy the same message, with nothing between them that orders the two. */
static int race (void)
{
    shared = mdmsg_new ();
    pthread_t threads[2];
    for (int n = 0; n < 2; n++)
        if (pthread_create (&threads[n], NULL, destroy_shared, NULL) != 0)
            return 2;
    for (int n = 0; n < 2; n++)
        pthread_join (threads[n], NULL);
    return 0;
}

/* A message is destroyed whose place is freed memory. */
static int use_freed (void)
{
    /* Volatile, so that the compiler does not see it before the sanitizer. */
    mdmsg_t **volatile place = (mdmsg_t **) calloc (1, sizeof *place);
    free ((void *) place);
    mdmsg_destroy (place);
    return 0;
}

int main (int count, char **arguments)
{
    if (count == 2 && strcmp (arguments[1], "thread") == 0)
        return race ();
    if (count == 2 && strcmp (arguments[1], "address") == 0)
        return use_freed ();
    return 2;
}
