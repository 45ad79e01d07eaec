#include <majordomo.h>
#include <stdio.h>

int main (void)
{
    mdmsg_t *message = mdmsg_new ();
    mdmsg_destroy (&message);
    puts (md_version ());
    return 0;
}
