"""elepay, the vendor: what it is asked, how that is carried, what it answers, and what it offers.

==============  =====================================================================
client          what elepay is asked: requests, URLs, headers
http_transport  requests in flight: one thread writes and reads them all
exchange        one request and its answer: bytes only
answers         what an answer of elepay says, and whether it is believed
codes           elepay's error codes, and what is done about each (data)
catalogue       elepay's payment methods and resources, and what each demands (data)
==============  =====================================================================
"""
