#include <iostream>
#include <majordomo.hpp>

int main ()
{
    majordomo::message message ("x");
    std::cout << majordomo::version () << '\n';
}
